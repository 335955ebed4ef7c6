// Package wire is the protocol of a virtual machine's agent and the harness over one reliable byte
// channel: frames of many streams, one stream for each program that the agent runs or each
// connection that it opens. It must know neither qemu nor how a program is started.
package wire

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"sync"
)

// Port is the name of the virtio-serial port that carries the channel.
const Port = "pool-machine"

// Type is the type of a frame.
type Type byte

// The frames. The harness sends the first four, the agent the rest.
const (
	Open       Type = iota + 1 // Request as JSON: a new stream
	Input                      // bytes for the program's standard input
	InputEnd                   // the end of it
	Kill                       // end the program and all that it started
	Hello                      // the agent is there; on stream 0
	Output                     // bytes from standard output
	Error                      // bytes from standard error
	Accepted                   // four bytes, big-endian: so many bytes of Input were taken
	Ended                      // Exit as JSON: the last frame of a stream
	lastOfType = Ended
)

// Window is how many bytes of Input may be on their way on one stream, so that a program that does
// not read blocks its own stream only.
const Window = 256 << 10

// MaxPayload bounds a frame's payload in bytes.
const MaxPayload = 32 << 10

// headerSize is type, stream and length of payload, the numbers big-endian.
const headerSize = 1 + 4 + 4

// Frame is one message.
type Frame struct {
	Type    Type
	Stream  uint32
	Payload []byte
}

// Request describes a stream: a program, or a connection when Network is set.
type Request struct {
	Args    []string `json:",omitempty"`
	Env     []string `json:",omitempty"` // the whole environment
	Dir     string   `json:",omitempty"`
	Network string   `json:",omitempty"`
	Address string   `json:",omitempty"`
}

// Exit is how a stream ended.
type Exit struct {
	Code  int
	Error string `json:",omitempty"` // it could not be started, or not be watched to its end
}

// Writer writes whole frames from several goroutines.
type Writer struct {
	mu  sync.Mutex
	out io.Writer
	buf []byte
}

// NewWriter writes to out.
func NewWriter(out io.Writer) *Writer { return &Writer{out: out} }

// Write writes one frame; the payload may be longer than MaxPayload and is then cut into several
// frames.
func (w *Writer) Write(t Type, stream uint32, payload []byte) error {
	for len(payload) > MaxPayload {
		if err := w.one(t, stream, payload[:MaxPayload]); err != nil {
			return err
		}
		payload = payload[MaxPayload:]
	}
	return w.one(t, stream, payload)
}

// WriteJSON writes one frame with v as its payload, which must fit into it.
func (w *Writer) WriteJSON(t Type, stream uint32, v any) error {
	payload, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(payload) > MaxPayload {
		return fmt.Errorf("a message of %d bytes does not fit into a frame of %d", len(payload), MaxPayload)
	}
	return w.one(t, stream, payload)
}

func (w *Writer) one(t Type, stream uint32, payload []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.buf = append(w.buf[:0], byte(t))
	w.buf = binary.BigEndian.AppendUint32(w.buf, stream)
	w.buf = binary.BigEndian.AppendUint32(w.buf, uint32(len(payload)))
	w.buf = append(w.buf, payload...)
	_, err := w.out.Write(w.buf)
	return err
}

// Read reads one frame. The payload is the caller's.
func Read(in io.Reader) (Frame, error) {
	var header [headerSize]byte
	if _, err := io.ReadFull(in, header[:]); err != nil {
		return Frame{}, err
	}
	f := Frame{Type: Type(header[0]), Stream: binary.BigEndian.Uint32(header[1:])}
	size := binary.BigEndian.Uint32(header[5:])
	if f.Type == 0 || f.Type > lastOfType || size > MaxPayload {
		return Frame{}, fmt.Errorf("invalid frame: type %d, %d bytes", f.Type, size)
	}
	f.Payload = make([]byte, size)
	if _, err := io.ReadFull(in, f.Payload); err != nil {
		return Frame{}, io.ErrUnexpectedEOF
	}
	return f, nil
}

// Credit counts the bytes of Input that may still be sent on a stream.
type Credit struct {
	mu    sync.Mutex
	free  int
	ended bool
	more  *sync.Cond
}

// NewCredit starts with a whole Window.
func NewCredit() *Credit {
	c := &Credit{free: Window}
	c.more = sync.NewCond(&c.mu)
	return c
}

// Take waits until n bytes may be sent, or returns false when the stream has ended. n is at most
// MaxPayload.
func (c *Credit) Take(n int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.free < n && !c.ended {
		c.more.Wait()
	}
	c.free -= n
	return !c.ended
}

// Give adds the credit of an Accepted frame.
func (c *Credit) Give(payload []byte) {
	if len(payload) != 4 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.free += int(binary.BigEndian.Uint32(payload))
	c.more.Broadcast()
}

// End wakes all who wait in Take.
func (c *Credit) End() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	c.more.Broadcast()
}

// AcceptedPayload is the payload of an Accepted frame.
func AcceptedPayload(n int) []byte { return binary.BigEndian.AppendUint32(nil, uint32(n)) }
