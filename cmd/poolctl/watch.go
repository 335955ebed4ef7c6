package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/pool-managerd/pool-managerd/registry/api/wire"
)

// frame is one refresh: what to print, and a key that changes when it is worth printing again.
type frame struct {
	body []byte
	key  string
}

// frame renders an answer in the requested format.
func (a *app) frame(raw []byte, key any, table func(io.Writer) error) (frame, error) {
	k, err := wire.Encode(key)
	if err != nil {
		return frame{}, err
	}
	if a.o.output == formatJSON {
		return frame{cleanJSON(raw), string(k)}, nil
	}
	var b bytes.Buffer
	if err := table(&b); err != nil {
		return frame{}, err
	}
	return frame{b.Bytes(), string(k)}, nil
}

// show prints one frame; with watch, each one that differs from the last until ctx ends. On a
// terminal each frame replaces the one before. Elsewhere a line with the time separates them,
// except in JSON, where each is a line.
func (a *app) show(ctx context.Context, watch bool, look func(context.Context) (frame, error)) error {
	if !watch {
		f, err := look(ctx)
		if f.body == nil {
			return err
		}
		if _, writeErr := a.out.Write(f.body); err == nil { // an error may have a frame, see aside
			err = writeErr
		}
		return err
	}
	last, down := "", false
	for ctx.Err() == nil {
		f, err := look(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case isGone(err):
			if !down {
				down, last = true, ""
				report(a.err, err, exitUnreachable)
			}
			if f.body != nil {
				if err := a.next(f, last); err != nil {
					return err
				}
			}
			last = f.key
		case err != nil:
			return err
		default:
			if down {
				down, last = false, ""
			}
			if err := a.next(f, last); err != nil {
				return err
			}
			last = f.key
		}
		select {
		case <-ctx.Done():
		case <-time.After(a.every):
		}
	}
	return nil
}

// next prints a frame of a watch if it differs. A terminal always gets it: ages change.
func (a *app) next(f frame, last string) error {
	changed := f.key != last
	switch {
	case a.clear && a.o.output != formatJSON:
		f.body = append([]byte("\x1b[H\x1b[2J"), f.body...) // cursor home, erase the screen (ECMA-48)
	case !changed:
		return nil
	case a.o.output != formatJSON:
		f.body = append(fmt.Appendf(nil, "# %s\n", a.now().Format(time.RFC3339)), append(f.body, '\n')...)
	}
	_, err := a.out.Write(f.body)
	return err
}

// isGone reports whether a watch continues after the error: the daemon may come back.
func isGone(err error) bool {
	var e *exitError
	return errors.As(err, &e) && e.code == exitUnreachable
}
