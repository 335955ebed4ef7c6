package probe

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
)

// What the health protocol of gRPC says: https://github.com/grpc/grpc/blob/master/doc/health-checking.md and health.proto. The
// messages are so small that they are written and read here: the library would add several megabytes to the program.
const (
	healthMethod = "/grpc.health.v1.Health/Check"
	// frameHead is the length of what stands before each message: one byte for its compression, four for its length
	// (PROTOCOL-HTTP2.md, "Length-Prefixed-Message").
	frameHead = 5
	// answerLimit bounds a HealthCheckResponse with its head, in bytes. A real one has seven.
	answerLimit = 4 << 10
	// serving is HealthCheckResponse.ServingStatus SERVING.
	serving = 1
)

var servingStatus = map[uint64]string{0: "UNKNOWN", serving: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}

func (p *Prober) askGRPC(ctx context.Context, c Check) error {
	req, err := request(ctx, http.MethodPost, "http://"+c.Host+healthMethod, bytes.NewReader(healthRequest(c.Service)))
	if err != nil {
		return failedGRPC(err, c)
	}
	req.Close = c.Close
	req.Header.Set("Content-Type", "application/grpc")
	req.Header.Set("Te", "trailers")
	req.Header.Set("Grpc-Timeout", fmt.Sprintf("%dm", max(c.Timeout.Milliseconds(), 1)))
	resp, err := p.h2.Do(req)
	if err != nil {
		return failedGRPC(err, c)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, answerLimit))
	if err != nil {
		return failedGRPC(err, c)
	}
	if resp.StatusCode != http.StatusOK {
		return wrongGRPC(fmt.Sprintf("HTTP status %d%s", resp.StatusCode, quoted(body)))
	}
	// The status follows the message as a trailer; an answer without a message has it among its headers.
	if status := cmp.Or(resp.Trailer.Get("Grpc-Status"), resp.Header.Get("Grpc-Status")); status != "0" {
		said := cmp.Or(resp.Trailer.Get("Grpc-Message"), resp.Header.Get("Grpc-Message"))
		return wrongGRPC(fmt.Sprintf("gRPC status %q%s", status, quoted([]byte(said))))
	}
	state, err := servingOf(body)
	if err != nil {
		return wrongGRPC("the answer is no gRPC: " + err.Error())
	}
	if state != serving {
		return wrongGRPC("it says " + cmp.Or(servingStatus[state], fmt.Sprintf("status %d", state)))
	}
	return nil
}

func wrongGRPC(text string) *Error { return &Error{Reason: ReasonGRPC, Text: text} }

// failedGRPC is a transport's error; what is no HTTP/2 is no gRPC.
func failedGRPC(err error, c Check) *Error {
	f := failed(err, c.Timeout)
	if f.Reason == ReasonHTTP {
		f.Reason, f.Text = ReasonGRPC, "the answer is no gRPC: "+cause(err).Error()
	}
	return f
}

// healthRequest is a HealthCheckRequest in its frame: field 1 is the name of the service.
func healthRequest(service string) []byte {
	var message []byte
	if service != "" {
		message = append(message, 1<<3|2)
		message = binary.AppendUvarint(message, uint64(len(service)))
		message = append(message, service...)
	}
	frame := make([]byte, frameHead, frameHead+len(message))
	binary.BigEndian.PutUint32(frame[1:], uint32(len(message)))
	return append(frame, message...)
}

// servingOf reads the status out of a HealthCheckResponse in its frame; 0 where the message does not hold it.
func servingOf(frame []byte) (uint64, error) {
	if len(frame) < frameHead {
		return 0, fmt.Errorf("%d bytes are no message", len(frame))
	}
	if frame[0] != 0 {
		return 0, errors.New("it is compressed, which nobody asked for")
	}
	message := frame[frameHead:]
	if n := binary.BigEndian.Uint32(frame[1:]); uint64(n) != uint64(len(message)) {
		return 0, fmt.Errorf("a message of %d bytes, and %d came", n, len(message))
	}
	return firstVarint(message)
}

// firstVarint returns field 1 of a message, which is a varint there, 0 where it is left out; other fields are skipped
// (https://protobuf.dev/programming-guides/encoding/).
func firstVarint(message []byte) (value uint64, err error) {
	for len(message) > 0 {
		tag, n := binary.Uvarint(message)
		if n <= 0 {
			return 0, errShort
		}
		message = message[n:]
		var skip int
		switch tag & 7 {
		case 0:
			v, n := binary.Uvarint(message)
			if n <= 0 {
				return 0, errShort
			}
			if tag>>3 == 1 {
				value = v
			}
			skip = n
		case 1:
			skip = 8
		case 2:
			length, n := binary.Uvarint(message)
			if n <= 0 || length > uint64(len(message)) {
				return 0, errShort
			}
			skip = n + int(length)
		case 5:
			skip = 4
		default:
			return 0, fmt.Errorf("a field of wire type %d", tag&7)
		}
		if skip > len(message) {
			return 0, errShort
		}
		message = message[skip:]
	}
	return value, nil
}

var errShort = errors.New("the message is cut short")
