package main

import "strings"

// nearest returns the most similar name: one of which typed is a prefix or the reverse, else the
// one at the least edit distance, at most a third of the word's length. It returns "" if none is
// near.
func nearest(typed string, names []string) string {
	best, least := "", max(1, len(typed)/3)+1
	for _, n := range names {
		d := distance(typed, n, least)
		if len(typed) > 1 && (strings.HasPrefix(n, typed) || strings.HasPrefix(typed, n)) {
			d = min(d, 1)
		}
		if d < least {
			best, least = n, d
		}
	}
	return best
}

// distance returns the edit distance (insert, delete, replace, swap of neighbours). A result of
// limit or more means at least limit.
func distance(a, b string, limit int) int {
	if len(a)-len(b) >= limit || len(b)-len(a) >= limit {
		return limit
	}
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
