// Package shell writes words of commands that people paste into a shell.
package shell

import "strings"

// Quote returns a word that a shell reads as the text, whatever is in it.
func Quote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }
