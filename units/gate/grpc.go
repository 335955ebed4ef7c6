package gate

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"

	"github.com/pool-managerd/pool-managerd/units/probe/grpchealth"
)

// The part of HTTP/2 (RFC 9113) that one gRPC request needs. The response headers are not read,
// since that would need their compression (RFC 7541): a response whose message is SERVING is not an
// error.
const (
	preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" // section 3.4

	// Types of frames, section 6.
	frameData     = 0x0
	frameHeaders  = 0x1
	frameReset    = 0x3
	frameSettings = 0x4
	framePing     = 0x6
	frameGoAway   = 0x7

	flagAck        = 0x1 // of SETTINGS and PING
	flagEndStream  = 0x1 // of DATA and HEADERS
	flagEndHeaders = 0x4
	flagPadded     = 0x8

	maxFrame = 16 << 10 // the default SETTINGS_MAX_FRAME_SIZE, section 4.2
	stream   = 1
)

// askGRPC returns the health of a service, a status of health.proto.
func askGRPC(conn net.Conn, address, service string) (uint64, error) {
	out := []byte(preface)
	out = appendFrame(out, frameSettings, 0, 0, nil)
	out = appendFrame(out, frameHeaders, flagEndHeaders, stream, requestHeaders(address))
	out = appendFrame(out, frameData, flagEndStream, stream, grpchealth.Request(service))
	if _, err := conn.Write(out); err != nil {
		return 0, err
	}
	message, err := readMessage(bufio.NewReaderSize(conn, 512), conn)
	if err != nil {
		return 0, err
	}
	return grpchealth.Status(message)
}

// requestHeaders are the headers of a gRPC request (PROTOCOL-HTTP2.md), compressed by RFC 7541: two
// fields of its static table, then literals without indexing whose names are in that table, then
// one whose name is not. No value is longer than 126 bytes.
func requestHeaders(address string) []byte {
	head := []byte{0x80 | 3, 0x80 | 6} // :method POST, :scheme http
	head = appendText(append(head, 4), grpchealth.Method)
	head = appendText(append(head, 1), address)                        // :authority
	head = appendText(append(head, 0x0f, 31-0x0f), "application/grpc") // content-type
	return appendText(appendText(append(head, 0), "te"), "trailers")
}

func appendText(b []byte, text string) []byte {
	return append(append(b, byte(len(text))), text...)
}

// appendFrame writes a frame: length, type, flags, stream, payload (section 4.1).
func appendFrame(b []byte, kind, flags byte, id uint32, payload []byte) []byte {
	n := len(payload)
	b = append(b, byte(n>>16), byte(n>>8), byte(n), kind, flags)
	b = binary.BigEndian.AppendUint32(b, id)
	return append(b, payload...)
}

// readMessage reads frames to the end of the response and returns the content of its DATA frames.
func readMessage(in io.Reader, out io.Writer) (message []byte, err error) {
	for {
		kind, flags, payload, err := readFrame(in)
		if err != nil {
			return nil, err
		}
		switch kind {
		case frameSettings, framePing:
			if flags&flagAck != 0 {
				continue
			}
			if kind == frameSettings {
				payload = nil
			}
			if _, err := out.Write(appendFrame(nil, kind, flagAck, 0, payload)); err != nil {
				return nil, err
			}
		case frameReset, frameGoAway:
			return nil, errors.New("the server reset the request")
		case frameData:
			data, err := unpadded(flags, payload)
			if err != nil {
				return nil, err
			}
			if message = slices.Concat(message, data); len(message) > maxFrame {
				return nil, errors.New("the message is too long")
			}
		}
		if (kind == frameData || kind == frameHeaders) && flags&flagEndStream != 0 {
			return message, nil
		}
	}
}

func readFrame(in io.Reader) (kind, flags byte, payload []byte, err error) {
	var head [9]byte
	if _, err := io.ReadFull(in, head[:]); err != nil {
		return 0, 0, nil, err
	}
	n := int(head[0])<<16 | int(head[1])<<8 | int(head[2])
	if n > maxFrame {
		return 0, 0, nil, fmt.Errorf("a frame of %d bytes", n)
	}
	payload = make([]byte, n)
	_, err = io.ReadFull(in, payload)
	return head[3], head[4], payload, err
}

// unpadded removes the padding of a DATA frame (section 6.1).
func unpadded(flags byte, payload []byte) ([]byte, error) {
	if flags&flagPadded == 0 {
		return payload, nil
	}
	if len(payload) == 0 || int(payload[0]) >= len(payload) {
		return nil, errors.New("a frame with more padding than bytes")
	}
	return payload[1 : len(payload)-int(payload[0])], nil
}
