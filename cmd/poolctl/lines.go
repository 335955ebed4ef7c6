package main

import "bytes"

// eachLine calls do with each whole line of what was kept and p, and keeps the rest. It returns
// what an io.Writer does.
func eachLine(rest *[]byte, p []byte, do func(line []byte) error) (int, error) {
	*rest = append(*rest, p...)
	for {
		line, after, whole := bytes.Cut(*rest, []byte("\n"))
		if !whole {
			return len(p), nil
		}
		*rest = after
		if err := do(line); err != nil {
			return 0, err
		}
	}
}
