package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/pool-managerd/pool-managerd/registry/api/wire"
	"github.com/pool-managerd/pool-managerd/registry/client"
)

// downloadsPath is where downloads are asked for and listed.

// pullOptions are the flags of models pull.
type pullOptions struct {
	digest string
	cancel bool
	detach bool
}

func newPull(a *app) *cobra.Command {
	var o pullOptions
	cmd := &cobra.Command{
		Use:   "pull [REF]",
		Short: "Download a model into the cache, and show how far it is",
		Long: `Ask the daemon for a model, and follow its download until it is whole. The host's policy decides, as for a pool. The
download goes on when this command is interrupted, over a restart of the daemon and of the host; --cancel ends it, and what is on
disk is kept. Without REF, list the downloads that no pool waits for.`,
		Example: `  poolctl models pull hf:Qwen/Qwen3-8B-GGUF:Q4_K_M
  poolctl models pull --cancel hf:Qwen/Qwen3-8B-GGUF:Q4_K_M
  poolctl models pull`,
		Args: cobra.MaximumNArgs(1),
		RunE: do(func(ctx context.Context, args []string) error { return a.runPull(ctx, o, args) }),
	}
	f := cmd.Flags()
	f.StringVar(&o.digest, "digest", "", "`sha256:…` that the only file must have")
	f.BoolVar(&o.cancel, "cancel", false, "end the download; what is on disk is kept")
	f.BoolVarP(&o.detach, "detach", "d", false, "do not wait")
	cmd.ValidArgsFunction = a.completeDownload
	return cmd
}

// completeDownload offers the models whose download is under way.
func (a *app) completeDownload(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	list, _ := completing(cmd, a, func(ctx context.Context, c *client.Client) (wire.DownloadList, error) {
		list, _, err := got(c.GetDownloads(ctx, client.GetDownloadsParams{}))
		return list, err
	})
	var models []string
	for _, d := range list.Downloads {
		if strings.HasPrefix(d.Model, typed) {
			models = append(models, clean(d.Model)+"\t"+clean(d.State))
		}
	}
	return models, cobra.ShellCompDirectiveNoFileComp
}

func (a *app) runPull(ctx context.Context, o pullOptions, args []string) error {
	c, err := newClient(a.o)
	switch {
	case err != nil:
		return err
	case len(args) == 0 && (o.cancel || o.digest != "" || o.detach):
		return usage("name a model")
	case len(args) == 0:
		return a.listDownloads(ctx, c)
	}
	ask := wire.PullRequest{Model: args[0], Digest: o.digest, Cancel: o.cancel}
	d, raw, err := got(c.PostDownload(ctx, ask, client.PostDownloadParams{}))
	switch {
	case err != nil:
		return err
	case o.cancel && d.State != "cancelled":
		return a.say(raw, fmt.Sprintf("%s is downloaded further: %s will change to it", clean(d.Model),
			clean(strings.Join(d.Pools, ", "))))
	case o.cancel:
		return a.say(raw, clean(d.Model)+": cancelled; what is on disk is kept")
	case o.detach && d.State != "done":
		return a.say(raw, clean(d.Model)+" is "+clean(d.State)+"; poolctl models pull lists downloads")
	}
	return a.followDownload(ctx, c, d, raw)
}

func (a *app) listDownloads(ctx context.Context, c *client.Client) error {
	list, raw, err := got(c.GetDownloads(ctx, client.GetDownloadsParams{}))
	if err != nil {
		return err
	}
	if a.o.output == formatJSON {
		_, err := a.out.Write(cleanJSON(raw))
		return err
	}
	t := &table{}
	t.row("MODEL", "STATE", "PROGRESS", "FOR", "SINCE")
	for _, d := range list.Downloads {
		owner := strings.Join(d.Pools, ",")
		if owner == "" {
			owner = text(d.By)
		}
		progress := ""
		switch {
		case d.Progress != nil:
			progress = d.Progress.Progress()
		case d.LastError != nil:
			progress = *d.LastError
		}
		t.row(d.Model, d.State, progress, owner, ago(a.now(), d.ChangedMS))
	}
	return t.print(a.out)
}

// followDownload shows a download until it has ended, also while the daemon restarts.
func (a *app) followDownload(ctx context.Context, c *client.Client, d wire.Download, raw []byte) error {
	shown := newBar(a.err, a.bar, a.now)
	lost := false
	for {
		switch d.State {
		case "done":
			shown.end()
			return a.say(raw, fmt.Sprintf("%s is at %s", clean(d.Model), clean(text(d.Path))))
		case "failed":
			shown.end()
			return &exitError{code: exitFailed, text: clean(text(d.LastError)), hint: clean(text(d.Hint))}
		case "cancelled":
			shown.end()
			return fmt.Errorf("%s was cancelled meanwhile; what is on disk is kept", clean(d.Model))
		}
		if !lost {
			shown.show(d)
		}
		select {
		case <-ctx.Done():
			shown.end()
			fmt.Fprintf(a.err, "The download goes on. poolctl models pull lists it, and ends it with --cancel %s.\n",
				clean(d.Model))
			return errSilent
		case <-time.After(a.every / 4):
		}
		list, body, err := got(c.GetDownloads(ctx, client.GetDownloadsParams{}))
		switch {
		case ctx.Err() != nil || isGone(err):
			continue
		case err != nil:
			return err
		}
		now, listed := find(list, d.Model)
		if lost = !listed; listed {
			d, raw = now, body
			continue
		}
		// It ended, and was forgotten by a restart of the daemon: asking again says how.
		again, body, err := got(c.PostDownload(ctx, wire.PullRequest{Model: d.Model}, client.PostDownloadParams{}))
		switch {
		case err == nil:
			d, raw = again, body
		case ctx.Err() == nil && !isGone(err):
			return err
		}
	}
}

// find returns what a list says of a model.
func find(list wire.DownloadList, model string) (wire.Download, bool) {
	for _, d := range list.Downloads {
		if d.Model == model {
			return d, true
		}
	}
	return wire.Download{}, false
}

// barWidth is the length of a bar in columns, linesEvery how often a line is printed where there is
// no terminal.
const (
	barWidth   = 24
	linesEvery = 10 * time.Second
)

// bar shows progress: one line that is written over on a terminal, else a line now and then.
type bar struct {
	to       io.Writer
	terminal bool
	columns  int // of the terminal; 0: unknown
	now      func() time.Time
	started  time.Time
	last     time.Time
	state    string // of the pool that is shown
	turn     int    // of the spinner
	width    int    // of the line on the terminal
}

func newBar(to io.Writer, terminal bool, now func() time.Time) *bar {
	return &bar{to: to, terminal: terminal, columns: columnsOf(to), now: now}
}

// show shows a download.
func (b *bar) show(d wire.Download) {
	what := d.State
	if d.Progress != nil {
		what = d.Progress.Progress()
	}
	if b.terminal {
		b.over(strings.TrimLeft(filled(d.Progress)+" "+clean(what), " "))
		return
	}
	b.line(d.Model, what, nil)
}

// pool shows what a pool does that is waited for.
func (b *bar) pool(p wire.Pool) {
	what := p.State
	for _, r := range p.Replicas {
		if r.State == p.State && r.Reason != "" {
			what += ": " + r.Reason
			break
		}
	}
	if p.Staging != nil {
		what = p.State + ": " + p.Staging.Progress()
	}
	if p.State != b.state {
		b.state, b.last = p.State, time.Time{} // a line for each state
	}
	b.line(p.ID, what, p.Staging)
}

// spinner are the signs that show that something is under way whose amount is not known.
const spinner = `|/-\`

// line shows a line about something, with a bar or a spinner on a terminal.
func (b *bar) line(name, what string, progress *wire.Staging) {
	now := b.now()
	if b.started.IsZero() {
		b.started = now
	}
	if b.terminal {
		sign := filled(progress)
		if sign == "" {
			sign = spinner[b.turn%len(spinner) : b.turn%len(spinner)+1]
			b.turn++
		}
		b.over(fmt.Sprintf("%s %s: %s (%s)", sign, clean(name), clean(what),
			span(now.Sub(b.started).Truncate(time.Second))))
		return
	}
	if b.last.IsZero() || now.Sub(b.last) >= linesEvery {
		b.last = now
		fmt.Fprintf(b.to, "%s: %s\n", clean(name), clean(what))
	}
}

// over writes over the line before, and no further than the terminal's edge: a longer one would
// leave parts of itself behind.
func (b *bar) over(line string) {
	if runes := []rune(line); b.columns > 0 && len(runes) >= b.columns {
		line = string(runes[:b.columns-1])
	}
	n := utf8.RuneCountInString(line)
	fmt.Fprintf(b.to, "\r%s%s", line, strings.Repeat(" ", max(b.width-n, 0)))
	b.width = n
}

// columnsOf is the width of a terminal; 0 for anything else.
func columnsOf(to io.Writer) int {
	f, ok := to.(*os.File)
	if !ok {
		return 0
	}
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0
	}
	return int(size.Col)
}

// filled draws the part that is there; empty while the total is not known.
func filled(p *wire.Staging) string {
	if p == nil || p.Total == nil || *p.Total <= 0 {
		return ""
	}
	n := int(barWidth * (float64(min(p.Bytes, *p.Total)) / float64(*p.Total)))
	return "[" + strings.Repeat("#", n) + strings.Repeat(".", barWidth-n) + "]"
}

// end begins a new line behind the bar.
func (b *bar) end() {
	if b.terminal && b.width > 0 {
		fmt.Fprintln(b.to)
		b.width = 0
	}
}
