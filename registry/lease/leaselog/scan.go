package leaselog

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/pool-managerd/pool-managerd/registry/lease"
)

// found is the content of a file.
type found struct {
	leases map[string]lease.Lease
	spans  map[string]span // where the newest record of each lease is
	whole  int64           // bytes up to the end of the last complete line
	torn   int64           // bytes after it, of an incomplete write
	lines  int             // complete lines
	bad    int             // lines that cannot be read
	first  error           // what is wrong with the first of those
	header error           // what is wrong with the first line
}

// span is the position of a record's line in each volume: in the file in use and, during its
// replacement, in the new one. The index is the volume's number.
type span struct {
	at   [2]int64
	size int32
}

// scan reads a file to its end. The error is of reading; damage is in found, with everything that
// could be read. of is the volume that the file becomes.
func scan(r io.Reader, of int) (found, error) {
	f := found{leases: make(map[string]lease.Lease), spans: make(map[string]span), header: errHeader}
	in := bufio.NewReaderSize(r, maxLine)
	for {
		line, err := in.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			f.damaged(errNoRecord)
			f.lines++
			if f.whole, f.torn, err = skipLine(in, f.whole+int64(len(line))); err != nil {
				return f, ended(err)
			}
			continue
		}
		if err != nil {
			f.torn = int64(len(line))
			return f, ended(err)
		}
		f.add(line, of)
		f.whole += int64(len(line))
		f.lines++
	}
}

// ended returns nil for the end of the file.
func ended(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// skipLine reads to the end of a line that is too long.
func skipLine(in *bufio.Reader, whole int64) (end, torn int64, err error) {
	for {
		rest, err := in.ReadSlice('\n')
		whole += int64(len(rest))
		if !errors.Is(err, bufio.ErrBufferFull) {
			return whole, 0, err
		}
	}
}

// add handles a complete line.
func (f *found) add(line []byte, of int) {
	text := bytes.TrimSuffix(line, []byte{'\n'})
	if f.lines == 0 {
		f.header = checkHeader(text)
		return
	}
	r, err := parseRecord(text)
	switch {
	case err != nil:
		f.damaged(err)
	case r.Put != nil:
		s := span{size: int32(len(line))}
		s.at[of] = f.whole
		f.leases[r.Put.ID], f.spans[r.Put.ID] = *r.Put, s
	default:
		delete(f.leases, r.Drop)
		delete(f.spans, r.Drop)
	}
}

func (f *found) damaged(why error) {
	if f.bad++; f.first == nil {
		f.first = fmt.Errorf("line %d: %w", f.lines+1, why)
	}
}

// damage is why the file is unusable; nil if at most its end is torn.
func (f *found) damage() error {
	switch {
	case f.whole+f.torn == 0:
		return errors.New("the file is empty")
	case f.header != nil:
		return f.header
	case f.bad > 0:
		return fmt.Errorf("%d of %d lines cannot be read: %w", f.bad, f.lines, f.first)
	}
	return nil
}
