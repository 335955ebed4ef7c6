package strict

import "strings"

// suggest returns the dotted path that was most likely meant by key in the table prefix, "" where
// none is similar: a key of the same name in another table, or one with a few different letters.
func suggest(paths []string, prefix, key string) string {
	if len(key) > maxShown {
		return ""
	}
	key = strings.ReplaceAll(strings.ToLower(key), "-", "_")
	limit := min(len(key)/3, 3)
	best, distance := "", limit+1
	consider := func(path, name string, penalty int) {
		if d := edits(key, name) + penalty; d < distance {
			best, distance = path, d
		}
	}
	for _, path := range paths {
		parts := strings.Split(path, ".")
		for i, part := range parts {
			if part == "*" {
				continue
			}
			parent := strings.Join(parts[:i], ".")
			penalty := 0
			if parent != prefix {
				if penalty = 1; len(key) < 4 && part != key {
					continue // a short word is near to everything
				}
			}
			if part == key {
				penalty = min(penalty, limit) // the very word in another table always counts
			}
			if len(key) >= 4 && strings.HasPrefix(part, key) {
				penalty -= edits(key, part) - 1 // the beginning of a longer name is one edit
			}
			consider(strings.Join(parts[:i+1], "."), part, penalty)
		}
	}
	return best
}

// edits is the Levenshtein distance in bytes, two exchanged neighbours counting as one edit.
func edits(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			d := min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d = min(d, rows[i-2][j-2]+1)
			}
			rows[i][j] = d
		}
	}
	return rows[len(a)][len(b)]
}
