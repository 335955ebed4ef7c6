package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/pool-managerd/pool-managerd/cmd/poolctl/listview"
	"github.com/pool-managerd/pool-managerd/cmd/poolctl/term"
	"github.com/pool-managerd/pool-managerd/cmd/poolctl/top"
	"github.com/pool-managerd/pool-managerd/registry/client"
)

func newTop(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "top",
		Short: "Show pools, GPUs and events as they change, and operate pools",
		Long: `Show the pools of this host, its GPUs and what happens, refreshed every second, on the whole terminal; ? shows the keys.

Where the manager does not answer, the last picture stays, marked as old, until it answers again. Without colours
(NO_COLOR, or a terminal that has none) what is in trouble is bold. The log of a pool is read from this host's journal, with
the rights of the caller, and only where no address was given.`,
		Example: "  poolctl top\n  ssh -t HOST poolctl top",
		Args:    cobra.NoArgs,
		RunE:    do(func(ctx context.Context, _ []string) error { return a.runTop(ctx) }),
	}
}

// paintPause is the least time between two screens, unless a key was pressed.
const paintPause = 100 * time.Millisecond

// screenModel is what a live view shows: *top.Model, *fleettop.Model.
type screenModel interface {
	// Update takes what happened, a key among it, and returns what is to be done.
	Update(happened any) []any
	View() []term.Line
}

// live is a running view: one goroutine owns the model and the terminal; the others send to it.
type live struct {
	a        *app
	c        *client.Client
	terminal *term.Terminal
	painter  term.Painter
	model    screenModel

	happened chan any
	all      sync.WaitGroup
	unfollow context.CancelFunc // of the log that is followed; nil: none
	painted  time.Time
}

func (a *app) runTop(ctx context.Context) error {
	if a.o.output != formatTable {
		return usage("poolctl top has one form, a screen; poolctl list --watch -o json prints changes for programs")
	}
	c, err := newClient(a.o)
	if err != nil {
		return err
	}
	l := &live{a: a, c: c, model: top.New(a.hostName(), time.Local)}
	return l.show(ctx, "poolctl top", "poolctl list --watch", l.poll, l.readEvents)
}

// show shows the view until it is left. What it is called by and the command that prints lines
// instead are for where there is no terminal; sources send to the view until ctx ends.
func (l *live) show(ctx context.Context, name, lines string, sources ...func(context.Context)) (err error) {
	if l.terminal, err = l.a.openTerminal(name, lines); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.terminal.Leave()) }()
	l.painter = term.Painter{Colour: colours(os.Getenv), UTF8: utf8Locale(os.Getenv)}
	l.happened = make(chan any, 64)
	ctx, cancel := context.WithCancel(ctx)
	defer l.all.Wait()
	defer cancel()
	for _, source := range append(sources, l.keys) {
		l.all.Go(func() { source(ctx) })
	}
	return l.run(ctx)
}

// openTerminal takes over the terminal that poolctl reads from and prints to.
func (a *app) openTerminal(name, lines string) (*term.Terminal, error) {
	in, isIn := a.in.(*os.File)
	out, isOut := a.out.(*os.File)
	err := term.ErrNone
	if isIn && isOut {
		var t *term.Terminal
		if t, err = term.Open(in, out, os.Getenv("TERM")); err == nil {
			return t, nil
		}
	}
	return nil, &exitError{code: exitFailed, err: err, text: name + " needs a terminal: " + err.Error(),
		hint: lines + " prints changes as lines, to a file or a pipe too; ssh -t gives a remote command " +
			"a terminal."}
}

// hostName is what people know the host by: its name, or the address that was given.
func (a *app) hostName() string {
	switch {
	case a.o.url != "":
		return strings.TrimPrefix(strings.TrimPrefix(a.o.url, "http://"), "https://")
	case a.o.admin == "":
		return a.o.socket
	}
	name, err := os.Hostname()
	if err != nil {
		return "this host"
	}
	return name
}

// colours reports whether a terminal has colours and the user wants them (https://no-color.org).
func colours(getenv func(string) string) bool {
	kind := getenv("TERM")
	return getenv("NO_COLOR") == "" && kind != "" && kind != "dumb" && !strings.HasPrefix(kind, "vt") &&
		!strings.HasSuffix(kind, "-m") && !strings.HasSuffix(kind, "-mono")
}

// utf8Locale reports whether the user's characters are UTF-8 (locale(7)).
func utf8Locale(getenv func(string) string) bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := getenv(name); v != "" {
			v = strings.ToLower(strings.ReplaceAll(v, "-", ""))
			return strings.Contains(v, "utf8")
		}
	}
	return false
}

// keys sends what is typed.
func (l *live) keys(ctx context.Context) {
	if err := l.terminal.Keys(ctx, func(k term.Key) { l.send(ctx, k) }); err != nil {
		l.send(ctx, listview.Quit{}) // the terminal is gone
	}
}

// send passes on what happened.
func (l *live) send(ctx context.Context, what any) {
	select {
	case l.happened <- what:
	case <-ctx.Done():
	}
}

// run is the view's loop, until it is left.
func (l *live) run(ctx context.Context) error {
	resized := make(chan os.Signal, 1)
	signal.Notify(resized, syscall.SIGWINCH)
	defer signal.Stop(resized)
	l.resize()
	due := time.NewTimer(0)
	defer due.Stop()
	for {
		var pause time.Duration
		select {
		case <-ctx.Done():
			return nil
		case <-resized:
			l.resize()
		case <-due.C:
		case what := <-l.happened:
			quit, err := l.update(ctx, what)
			if quit || err != nil {
				return err
			}
			if _, key := what.(term.Key); !key {
				pause = paintPause - time.Since(l.painted)
			}
		}
		if pause > 0 {
			due.Reset(pause)
			continue
		}
		if err := l.paint(); err != nil {
			return err
		}
	}
}

func (l *live) resize() {
	width, height := l.terminal.Size()
	l.model.Update(listview.Size{Width: width, Height: height})
	l.painter.Forget() // terminals differ in what they do with what they show
}

func (l *live) paint() error {
	width, height := l.terminal.Size()
	l.painted = time.Now()
	return l.terminal.Write(l.painter.Paint(l.model.View(), width, height))
}

// update passes on what happened, and does what follows.
func (l *live) update(ctx context.Context, what any) (quit bool, err error) {
	if _, gone := what.(listview.Quit); gone {
		return true, nil
	}
	for _, effect := range l.model.Update(what) {
		switch e := effect.(type) {
		case listview.Quit:
			return true, nil
		case listview.Suspend:
			err = l.suspend()
		case listview.Redraw:
			l.painter.Forget()
		case top.Follow:
			l.follow(ctx, e)
		case top.Do:
			l.all.Go(func() { l.act(ctx, e) })
		}
	}
	return false, err
}

// stopPause is how long the shell's stop of this program may take; where there is no job control,
// nothing stops.
const stopPause = 200 * time.Millisecond

// suspend stops this program as Ctrl-Z does, and takes over the terminal when it is continued.
func (l *live) suspend() error {
	if err := l.terminal.Leave(); err != nil {
		return err
	}
	continued := make(chan os.Signal, 1)
	signal.Notify(continued, syscall.SIGCONT)
	defer signal.Stop(continued)
	if err := syscall.Kill(os.Getpid(), syscall.SIGTSTP); err != nil {
		return err
	}
	select {
	case <-continued:
	case <-time.After(stopPause):
	}
	l.painter.Forget()
	return l.terminal.Enter()
}
