// Package grpchealth encodes and decodes the two messages of gRPC's health protocol
// (https://github.com/grpc/grpc/blob/master/doc/health-checking.md and its health.proto), for the
// manager's probe and for the gate.
//
// It owns their encoding. It must not know connections. The messages are small, and the gRPC
// library would add several megabytes to each program.
package grpchealth

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Method is the path of the request.
const Method = "/grpc.health.v1.Health/Check"

// frameHead is the length of a message's prefix: one byte for its compression, four for its length
// (PROTOCOL-HTTP2.md of gRPC, "Length-Prefixed-Message").
const frameHead = 5

// Serving is HealthCheckResponse.ServingStatus SERVING.
const Serving = 1

// Name returns a status as spelled in health.proto.
func Name(status uint64) string {
	switch status {
	case 0:
		return "UNKNOWN"
	case Serving:
		return "SERVING"
	case 2:
		return "NOT_SERVING"
	case 3:
		return "SERVICE_UNKNOWN"
	}
	return fmt.Sprintf("status %d", status)
}

// Request returns a framed HealthCheckRequest. Field 1 is the name of the service, omitted for the
// whole server.
func Request(service string) []byte {
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

// Status returns the status of a framed HealthCheckResponse; 0 if the message has none.
func Status(frame []byte) (uint64, error) {
	if len(frame) < frameHead {
		return 0, fmt.Errorf("%d bytes are not a message", len(frame))
	}
	if frame[0] != 0 {
		return 0, errors.New("unexpected compression")
	}
	message := frame[frameHead:]
	if n := binary.BigEndian.Uint32(frame[1:]); uint64(n) != uint64(len(message)) {
		return 0, fmt.Errorf("a message of %d bytes, but received %d", n, len(message))
	}
	return firstVarint(message)
}

// firstVarint returns field 1 of a message, a varint; 0 if it is absent. It skips other fields
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
			return 0, fmt.Errorf("unknown wire type %d", tag&7)
		}
		if skip > len(message) {
			return 0, errShort
		}
		message = message[skip:]
	}
	return value, nil
}

var errShort = errors.New("the message is truncated")
