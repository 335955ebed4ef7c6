package main

import (
	"cmp"
	"fmt"
	"io"
	"strings"

	"github.com/pool-managerd/pool-managerd/registry/api/wire"
	"github.com/pool-managerd/pool-managerd/units/memory"
)

func (r *fitReport) printJSON(w io.Writer) error {
	body, err := wire.Encode(r)
	if err != nil {
		return err
	}
	_, err = w.Write(cleanJSON(body))
	return err
}

func (r *fitReport) print(w io.Writer) error {
	if _, err := fmt.Fprintf(w, "%s with %s%s\n\n", clean(r.name), r.Engine, r.asked()); err != nil {
		return err
	}
	t := &table{}
	t.row("DEVICE", "WEIGHTS", "KV-CACHE", "COMPUTE", "RUNTIME", "NEED", "FREE", "TOTAL", "FITS")
	rows := r.Devices
	if r.Host != nil {
		rows = append(rows[:len(rows):len(rows)], *r.Host)
	}
	for _, row := range rows {
		t.row(row.shown, size(row.Weights), size(row.KV), size(row.Compute), size(row.Runtime), size(row.Need),
			size(cmp.Or(row.Free, row.Available)),
			size(row.Total), row.answer())
	}
	if len(rows) > 0 {
		if err := t.print(w); err != nil {
			return err
		}
		if _, err := fmt.Fprintln(w); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintln(w, clean(strings.Join(r.sentences(), " ")))
	return err
}

// asked describes what the need was computed for.
func (r *fitReport) asked() string {
	switch {
	case r.Slots > 0 && r.Ctx > 0:
		return fmt.Sprintf(", %d slots with %d tokens of context each", r.Slots, r.Ctx)
	case r.CtxTotal > 0:
		return fmt.Sprintf(", %d tokens of context", r.CtxTotal)
	}
	return ""
}

func (row fitRow) answer() string {
	switch {
	case row.Fits == nil:
		return ""
	case *row.Fits:
		return "yes"
	case row.Why != "" && row.Free != nil && row.UUID != "":
		return "no, it is " + row.Why
	}
	return "no"
}

// size formats a number of bytes, "" if unknown.
func size(bytes *uint64) string {
	if bytes == nil {
		return ""
	}
	return memory.Size(*bytes)
}

// sentences are printed below the table.
func (r *fitReport) sentences() []string {
	var s []string
	switch {
	case r.Fits == nil:
		s = append(s, "It is unknown whether it fits: "+strings.TrimSuffix(r.Missing, ".")+".")
	case *r.Fits:
		s = append(s, "It fits.")
	default:
		s = append(s, "It does not fit.")
	}
	if r.Host != nil && r.Host.Why != "" {
		s = append(s, "It "+r.Host.Why+".")
	}
	switch {
	case r.LargestCtx > 0:
		s = append(s, fmt.Sprintf("The largest ctx that fits is %d; the model was trained for %d.", r.LargestCtx,
			r.CtxTrained))
	case r.Source == memory.Estimated && r.Fits != nil && !*r.Fits && r.CtxTrained > 0:
		s = append(s, "No ctx would make it fit.")
	}
	switch r.Source {
	case memory.Configured:
		s = append(s, "The need is the key vram of the pool file.")
	case memory.Claimed:
		s = append(s, "The engine claims this share of each device whatever the model.")
	}
	return append(s, r.Notes...)
}
