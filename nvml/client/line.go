package client

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/pool-managerd/pool-managerd/nvml/wire"
)

// errLong is a line longer than wire.MaxLine.
var errLong = fmt.Errorf("a line is longer than %d bytes", wire.MaxLine)

// VersionError: the helper has another version of the protocol, because only one of the two
// programs was upgraded.
type VersionError struct{ Theirs, Ours int }

func (e *VersionError) Error() string {
	return fmt.Sprintf("pool-gpu has protocol version %d, this program has %d; restart "+
		"pool-gpu.service, or install both programs from one package",
		e.Theirs, e.Ours)
}

// lines reads the helper's replies, one JSON object a line. It buffers at most wire.MaxLine bytes.
type lines struct {
	r   *bufio.Reader
	max int
}

func newLines(r io.Reader) *lines {
	return &lines{r: bufio.NewReaderSize(r, 32<<10), max: wire.MaxLine}
}

// next returns the next reply. io.EOF: the helper closed the connection between two lines;
// io.ErrUnexpectedEOF: within a line. After any error but a deadline the stream is unusable.
func (l *lines) next() (wire.Reply, error) {
	line, err := l.read()
	if err != nil {
		return wire.Reply{}, err
	}
	return decode(line)
}

func (l *lines) read() ([]byte, error) {
	var line []byte
	for {
		part, err := l.r.ReadSlice('\n')
		if len(line)+len(part) > l.max {
			return nil, errLong
		}
		line = append(line, part...)
		switch {
		case err == nil:
			return line[:len(line)-1], nil
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF) && len(line) > 0:
			return nil, io.ErrUnexpectedEOF
		default:
			return nil, err
		}
	}
}

// decode reads one line. The version is checked first: a line of another version is not read
// further.
func decode(line []byte) (wire.Reply, error) {
	var v struct {
		Version *int `json:"pool_gpu"`
	}
	if err := json.Unmarshal(line, &v); err != nil {
		return wire.Reply{}, fmt.Errorf("a line is not a JSON object: %w", err)
	}
	if v.Version == nil {
		return wire.Reply{}, errors.New(`a line has no "pool_gpu": the peer is not pool-gpu`)
	}
	if *v.Version != wire.Version {
		return wire.Reply{}, &VersionError{Theirs: *v.Version, Ours: wire.Version}
	}
	var r wire.Reply
	if err := json.Unmarshal(line, &r); err != nil {
		return wire.Reply{}, fmt.Errorf("a line does not match the protocol: %w", err)
	}
	return r, nil
}
