package main

import (
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// pages returns the pages of the documentation by their path, README.md with them.
func pages(t *testing.T) map[string]string {
	t.Helper()
	found := make(map[string]string)
	for _, pattern := range []string{"../../README.md", "../../docs/*.md", "../../docs/reference/*.md",
		"../../docs/adr/*.md"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatal(pattern, err)
		}
		for _, file := range files {
			body, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			found[strings.TrimPrefix(file, "../../")] = string(body)
		}
	}
	return found
}

// blocks are the parts of a page that are indented or between fences, each without its indentation.
func blocks(page string) (found []string) {
	var b strings.Builder
	end := func() {
		if text := strings.TrimRight(b.String(), "\n"); text != "" {
			found = append(found, text+"\n")
		}
		b.Reset()
	}
	fenced := false
	for line := range strings.Lines(page) {
		indented, is := strings.CutPrefix(line, "    ")
		switch {
		case strings.HasPrefix(line, "```"):
			end()
			fenced = !fenced
		case fenced:
			b.WriteString(line)
		case is:
			b.WriteString(indented)
		case line == "\n" && b.Len() > 0:
			b.WriteString(line)
		default:
			end()
		}
	}
	end()
	return found
}

// inTicks are the texts of a page that are between backticks.
var inTicks = regexp.MustCompile("`([^`\n]+)`")

// typedCommand is one on a page, as the words that a shell makes of it.
type typedCommand struct {
	words  []string
	inText bool // it may be a verb alone, or an option without its value
}

// commandsIn returns the commands of poolctl that a page has, in blocks and between backticks.
func commandsIn(page string) (found []typedCommand) {
	var lines []string
	for _, block := range blocks(page) {
		for line := range strings.Lines(strings.ReplaceAll(block, "\\\n", " ")) {
			line = strings.TrimPrefix(strings.TrimSuffix(line, "\n"), "$ ")
			if root, is := strings.CutPrefix(line, "# "); is && strings.HasPrefix(root, "poolctl ") {
				line = root
			}
			if !strings.HasPrefix(line, "#") {
				lines = append(lines, line)
			}
		}
	}
	inBlocks := len(lines)
	for _, m := range inTicks.FindAllStringSubmatch(page, -1) {
		if strings.HasPrefix(m[1], "poolctl ") {
			lines = append(lines, m[1])
		}
	}
	for i, line := range lines {
		for _, words := range shellCommands(line) {
			if len(words) > 1 && words[0] == "poolctl" {
				found = append(found, typedCommand{words[1:], i >= inBlocks})
			}
		}
	}
	return found
}

// shellCommands splits a line as a shell does, as far as pages need it: quotes, a comment, and what
// is between two commands.
func shellCommands(line string) (found [][]string) {
	var words []string
	word, quote, begun := "", rune(0), false
	next := func() {
		if begun {
			words = append(words, word)
		}
		word, begun = "", false
	}
	end := func() {
		next()
		found, words = append(found, words), nil
	}
	for _, c := range line {
		switch {
		case quote != 0 && c == quote:
			quote = 0
		case quote != 0:
			word += string(c)
		case c == '\'' || c == '"':
			quote, begun = c, true
		case c == ' ':
			next()
		case c == '#' && !begun:
			end()
			return found
		case strings.ContainsRune(";&|", c):
			end()
		case c == '>' || c == '<':
			end()
			return found
		default:
			word, begun = word+string(c), true
		}
	}
	end()
	return found
}

// placeholder is a word in place of a value.
var placeholder = regexp.MustCompile(`^[A-Z]+$`)

// TestCommandsOnPages: each command of poolctl on a page is one that the program takes: the verb,
// the options, and the number and the form of its arguments.
func TestCommandsOnPages(t *testing.T) {
	n := 0
	for file, page := range pages(t) {
		for _, c := range commandsIn(page) {
			n++
			if why := refusedLine(c); why != "" {
				t.Errorf("%s: poolctl %s: %s", file, strings.Join(c.words, " "), why)
			}
		}
	}
	if n < 150 {
		t.Errorf("%d commands on all pages: the test looks in the wrong place", n)
	}
	for line, want := range map[string]string{
		"lst": "unknown command", "list --wacth": "unknown flag", "status": "needs a pool",
		"render a b": "want one pool", "list": "", "drain 'llama*' --wait": "",
	} {
		why := refusedLine(typedCommand{words: shellCommands(line)[0]})
		if (why == "") != (want == "") || !strings.Contains(why, want) {
			t.Errorf("%s: %q, want %q", line, why, want)
		}
	}
}

// refusedLine is why a command line is wrong; empty: it is not.
func refusedLine(c typedCommand) string {
	words := slices.DeleteFunc(slices.Clone(c.words), func(w string) bool { return w == "…" || w == "..." })
	if slices.Contains([]string{"completion", "help", "--help"}, words[0]) {
		return ""
	}
	root := newRoot(&app{out: io.Discard, err: io.Discard})
	cmd, rest, err := root.Find(words)
	if err != nil {
		return err.Error()
	}
	err = cmd.ParseFlags(rest)
	if err != nil && c.inText && strings.HasPrefix(err.Error(), "flag needs an argument") {
		return ""
	} else if err != nil {
		return err.Error()
	}
	args := cmd.Flags().Args()
	for i, arg := range args {
		if placeholder.MatchString(arg) && (arg != "CODE" || cmd.Name() != "explain") {
			args[i] = strings.ToLower(arg)
		}
	}
	if len(args) == 0 && c.inText {
		return ""
	}
	if err := cmd.ValidateArgs(args); err != nil {
		return err.Error()
	}
	return ""
}

// Forms of lines of output.
var (
	digits  = regexp.MustCompile(`[0-9]+([.][0-9]+)?`)
	heading = regexp.MustCompile(`^[A-Z][A-Z/-]*(  +[A-Z][A-Z/-]*)+$`)
	spans   = regexp.MustCompile(`[0-9]+ (ms|s|min|h|d)\b( [0-9]+ (min|h)\b)?`)
	uuid    = regexp.MustCompile(`GPU-[0-9a-f]+`)
	gaps    = regexp.MustCompile(` {2,}`)
	keyed   = regexp.MustCompile(`^([A-Z][A-Za-z ]*:) +`)
)

// form is what a line has in common with any other of its kind: a heading its columns, a line with
// a key the key, a sentence its first clause without numbers. Rows of tables and hints have none.
func form(line string) string {
	line = strings.TrimSuffix(line, "\n")
	switch m := keyed.FindStringSubmatch(line); {
	case heading.MatchString(line):
		return gaps.ReplaceAllString(line, " ")
	case m != nil:
		return m[1]
	case line == "", strings.ContainsAny(line[:1], " #["), strings.HasPrefix(line, "…"):
		return ""
	}
	clause, _, _ := strings.Cut(line, ": ")
	return digits.ReplaceAllString(spans.ReplaceAllString(uuid.ReplaceAllString(clause, "GPU-0"), "0 s"), "0")
}

// forms are those of what is printed; a table's rows have none.
func formsOf(text string) (found []string) {
	table := false
	for line := range strings.Lines(text) {
		if f := form(line); f != "" && !table {
			found = append(found, f)
			table = heading.MatchString(strings.TrimSuffix(line, "\n"))
		}
		table = table && line != "\n"
	}
	return found
}

// TestOutputsOnPages: what pages show of the program's output is in the forms that it prints now:
// the columns of tables, the names of values, the beginnings of sentences. Values are those of
// other hosts. The output of the page about troubleshooting is word for word
// (TestTroubleshootingPage), that of README is run in a machine (test/e2e: TestReadmeShows).
func TestOutputsOnPages(t *testing.T) {
	files, err := filepath.Glob("testdata/*.golden")
	if err != nil || len(files) == 0 {
		t.Fatal("no golden files", err)
	}
	printed := make(map[string]bool)
	for _, file := range files {
		body, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range formsOf(string(body)) {
			printed[f] = true
		}
	}
	n := 0
	for file, page := range pages(t) {
		for _, block := range blocks(page) {
			for part := range strings.SplitSeq("\n"+block, "\n$ ") {
				command, output, _ := strings.Cut(part, "\n")
				verb, is := strings.CutPrefix(command, "poolctl ")
				if verb, _, _ = strings.Cut(verb, " "); !is || verb == "render" || verb == "check" {
					continue // units, and problems of files, are compared where they are made
				}
				n++
				for _, f := range formsOf(output) {
					if !printed[f] {
						t.Errorf("%s: poolctl %s prints nothing like %q", file, verb, f)
					}
				}
			}
		}
	}
	if n < 20 {
		t.Errorf("%d outputs on all pages: the test looks in the wrong place", n)
	}
}
