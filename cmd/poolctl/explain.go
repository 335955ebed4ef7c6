package main

import (
	"context"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pool-managerd/pool-managerd/docs"
	"github.com/pool-managerd/pool-managerd/registry/api/wire"
)

// codeForm matches codes and no pool, whose ids have small letters.
var codeForm = regexp.MustCompile(`^[A-Z][A-Z0-9_]+$`)

func newExplain(a *app) *cobra.Command {
	var q question
	cmd := &cobra.Command{
		Use:   "explain [POOL | CODE]",
		Short: "Show how far a pool is on its way to ready, what stopped it, or what an error means",
		Long: `With a pool: the steps from its file to ready, what holds, where it stands and since when, and what to type next.
With a code, as INSUFFICIENT_VRAM: when it appears, what happens by itself, and what to do. Without either: all codes.

The marks of steps are: ok, it holds; now, it is under way; NO, it is why the pool does not serve; -, it was not
reached; ?, it is not known, or is looked at again at the next start.

With --why-stopped or --why-restarted, what led to the last end or restart of each replica, from the journal, which
outlives the manager, or, where this user may not read it, from the manager's events.`,
		Example: `  poolctl explain llama3
  poolctl explain llama3 --why-stopped
  poolctl explain MODEL_NOT_FOUND`,
		Args: func(_ *cobra.Command, args []string) error {
			switch {
			case q.stopped && q.restarted:
				return usage("--why-stopped and --why-restarted are two questions; give one")
			case (q.stopped || q.restarted) && (len(args) != 1 || codeForm.MatchString(args[0])):
				return usage("--why-stopped and --why-restarted are about one pool; name it")
			case len(args) > 1:
				return usage("want one pool or code, have %d arguments", len(args))
			case len(args) == 1 && !codeForm.MatchString(args[0]):
				return validPool(args[0])
			}
			return nil
		},
		ValidArgsFunction: a.completeExplained,
		RunE: do(func(ctx context.Context, args []string) error {
			switch {
			case len(args) == 0:
				return a.printCodes()
			case codeForm.MatchString(args[0]):
				return a.explainCode(args[0])
			case q.stopped || q.restarted:
				return a.explainPast(ctx, args[0], q)
			}
			return a.explainPool(ctx, args[0])
		}),
	}
	cmd.Flags().BoolVar(&q.stopped, "why-stopped", false, "show what ended the last time that the pool served")
	cmd.Flags().BoolVar(&q.restarted, "why-restarted", false, "show what led to the last restart of its engines")
	return cmd
}

// completeExplained offers codes and the pools of the host.
func (a *app) completeExplained(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	offered, directive := a.completePool(cmd, args, typed)
	for _, c := range codes() {
		if len(args) == 0 && strings.HasPrefix(c.Code, typed) {
			offered = append(offered, c.Code+"\t"+firstClause(c.Symptom))
		}
	}
	return offered, directive
}

// codeRow is one row of the table of failures.
type codeRow struct {
	Code    string `json:"code"`
	Symptom string `json:"symptom"`
	Happens string `json:"what_happens"`
	Do      string `json:"what_to_do"`
}

var (
	codeCells = regexp.MustCompile("^\\| (.*) \\| `([A-Z][A-Z0-9_]+)` \\| (.*) \\| (.*) \\|$")
	pageLink  = regexp.MustCompile(`\[([^\]]*)\]\(([^)]*)\)`)
)

// codes returns the table of the page of failures, in its order.
func codes() (rows []codeRow) {
	for line := range strings.Lines(docs.Failures) {
		if m := codeCells.FindStringSubmatch(strings.TrimSuffix(line, "\n")); m != nil {
			rows = append(rows, codeRow{m[2], plainCell(m[1]), plainCell(m[3]), plainCell(m[4])})
		}
	}
	return rows
}

// plainCell is a cell of a table without the marks of Markdown. A link has the name of its page
// behind it, which the package installs.
func plainCell(cell string) string {
	cell = pageLink.ReplaceAllStringFunc(cell, func(link string) string {
		m := pageLink.FindStringSubmatch(link)
		page, _, _ := strings.Cut(m[2], "#")
		if page == "" {
			page = "failures.md"
		}
		if page == m[1] {
			return page
		}
		return m[1] + " (" + page + ")"
	})
	return strings.ReplaceAll(cell, "`", "")
}

// firstClause is the beginning of a sentence, for lists.
func firstClause(sentence string) string {
	clause, _, _ := strings.Cut(sentence, ";")
	const most = 100
	if len(clause) <= most {
		return clause
	}
	end := strings.LastIndexByte(clause[:most], ' ')
	return clause[:max(end, 0)] + " …"
}

func (a *app) printCodes() error {
	rows := codes()
	if a.o.output == formatJSON {
		return a.printJSON(rows)
	}
	t := &table{}
	t.row("CODE", "WHEN")
	for _, r := range rows {
		t.row(r.Code, firstClause(r.Symptom))
	}
	return t.print(a.out)
}

func (a *app) explainCode(code string) error {
	rows := codes()
	names := make([]string, len(rows))
	for i, r := range rows {
		if names[i] = r.Code; r.Code != code {
			continue
		}
		if a.o.output == formatJSON {
			return a.printJSON(r)
		}
		return printCode(a.out, r)
	}
	e := &exitError{code: exitFailed, text: "there is no code " + code, hint: "poolctl explain lists all codes."}
	near := nearest(code, names)
	if near == "" {
		near = strings.Join(sharingAWord(code, names), " or ")
	}
	if near != "" {
		e.hint = fmt.Sprintf("Did you mean %s? poolctl explain lists all codes.", near)
	}
	return e
}

// sharingAWord returns the codes that have most words of a code in common, at most three, and none
// where all that is common is in more of them.
func sharingAWord(code string, codes []string) (found []string) {
	most := 1
	for _, c := range codes {
		common := 0
		for word := range strings.SplitSeq(code, "_") {
			if slices.Contains(strings.Split(c, "_"), word) {
				common++
			}
		}
		if common > most {
			found, most = nil, common
		}
		if common == most {
			found = append(found, c)
		}
	}
	if len(found) > 3 {
		return nil
	}
	return found
}

// isCode reports whether a word is a code but for its case.
func isCode(word string) bool {
	return slices.ContainsFunc(codes(), func(r codeRow) bool { return strings.EqualFold(r.Code, word) })
}

func printCode(w io.Writer, r codeRow) error {
	t := &table{}
	t.row("Code:", r.Code)
	t.row("When:", r.Symptom)
	t.row("Happens:", r.Happens)
	t.row("To do:", r.Do)
	t.row("More:", "/usr/share/doc/pool-managerd/failures.md")
	return t.print(w)
}

func (a *app) printJSON(v any) error {
	body, err := wire.Encode(v)
	if err != nil {
		return err
	}
	_, err = a.out.Write(cleanJSON(body))
	return err
}
