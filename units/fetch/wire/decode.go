package wire

import "bytes"

// Decoder takes the bytes that a program prints, in pieces of any size, and returns the events in
// them. It keeps at most one line.
type Decoder struct {
	line    []byte // begun and not ended
	skip    bool   // the line is too long: what is left of it is dropped
	bad     int
	problem error
}

// Feed returns the events that are complete with the next bytes. Lines that are none are counted.
func (d *Decoder) Feed(p []byte) (events []Event) {
	for {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			d.keep(p)
			return events
		}
		d.keep(p[:i])
		if e, ok := d.end(); ok {
			events = append(events, e)
		}
		p = p[i+1:]
	}
}

func (d *Decoder) keep(p []byte) {
	if d.skip {
		return
	}
	if len(d.line)+len(p) > MaxLine {
		d.skip, p = true, p[:MaxLine+1-len(d.line)] // one too many, which Parse refuses
	}
	d.line = append(d.line, p...)
}

func (d *Decoder) end() (Event, bool) {
	line := d.line
	d.line, d.skip = d.line[:0], false
	if len(bytes.TrimSpace(line)) == 0 {
		return Event{}, false
	}
	e, err := Parse(line)
	if err != nil {
		d.bad++
		d.problem = err
		return Event{}, false
	}
	return e, true
}

// Bad returns how many lines were no events, and what was wrong with the last of them.
func (d *Decoder) Bad() (int, error) { return d.bad, d.problem }
