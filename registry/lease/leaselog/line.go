package leaselog

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"

	"github.com/pool-managerd/pool-managerd/registry/lease"
)

// The first line has the format's number. Each later line is a record: the checksum of the JSON
// text in eight hexadecimal digits, a space, the text.
const (
	headerPrefix = "# pool-managerd leases, format "
	format       = 2 // 1 was a bbolt file, which has no such line
	sumDigits    = 8
)

// maxLine is the longest line, in bytes with its newline.
const maxLine = 64 << 10

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// record is one change: exactly one of the two is set.
type record struct {
	Put  *lease.Lease `json:"put,omitempty"`
	Drop string       `json:"drop,omitempty"`
}

var (
	errHeader   = errors.New("the first line is not the header of a lease file")
	errNoRecord = errors.New("the line is not a record")
	errChecksum = errors.New("the checksum of the line is wrong")
)

func headerLine() string { return headerPrefix + strconv.Itoa(format) + "\n" }

// checkHeader returns what is wrong with the first line, given without its newline.
func checkHeader(line []byte) error {
	number, ok := strings.CutPrefix(string(line), headerPrefix)
	if !ok {
		return errHeader
	}
	if number != strconv.Itoa(format) {
		return fmt.Errorf("the file has format %.20q, this version reads %d", number, format)
	}
	return nil
}

// appendRecord appends a record's line to buf. The text equals that of encoding/json, but is
// written by hand: it is a large part of the cost of a lease.
func appendRecord(buf []byte, r record) ([]byte, error) {
	start := len(buf)
	buf = append(buf, "00000000 {"...)
	if l := r.Put; l != nil {
		buf = appendText(buf, `"put":{"id":`, l.ID)
		buf = appendText(buf, `,"pool":`, l.Pool)
		buf = appendText(buf, `,"replica":`, l.Replica)
		buf = appendText(buf, `,"run":`, l.Run)
		buf = appendOptional(buf, `,"holder":`, l.Holder)
		buf = appendOptional(buf, `,"endpoint":`, l.Endpoint)
		buf = strconv.AppendInt(append(buf, `,"expires":`...), int64(l.Expires), 10)
		if l.Taken != 0 {
			buf = strconv.AppendInt(append(buf, `,"taken":`...), int64(l.Taken), 10)
		}
		buf = appendOptional(buf, `,"lost":`, l.Lost)
		buf = appendOptional(buf, `,"key":`, l.Key)
		buf = append(appendOptional(buf, `,"sum":`, l.Sum), '}')
	} else {
		buf = appendText(buf, `"drop":`, r.Drop)
	}
	buf = append(buf, '}')
	text := buf[start+sumDigits+1:]
	if size := sumDigits + 1 + len(text) + 1; size > maxLine {
		return buf[:start], fmt.Errorf("a record of %d bytes is too long", size)
	}
	hex.Encode(buf[start:], sum(text))
	return append(buf, '\n'), nil
}

func appendOptional(buf []byte, key, value string) []byte {
	if value == "" {
		return buf
	}
	return appendText(buf, key, value)
}

// appendText appends a key with its colon and a string.
func appendText(buf []byte, key, value string) []byte {
	buf = append(buf, key...)
	for i := range len(value) {
		if c := value[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			text, _ := json.Marshal(value) // a string has no error
			return append(buf, text...)
		}
	}
	buf = append(buf, '"')
	buf = append(buf, value...)
	return append(buf, '"')
}

// parseRecord parses a line, given without its newline.
func parseRecord(line []byte) (record, error) {
	if len(line) < sumDigits+1 || line[sumDigits] != ' ' {
		return record{}, errNoRecord
	}
	text := line[sumDigits+1:]
	if string(line[:sumDigits]) != hex.EncodeToString(sum(text)) {
		return record{}, errChecksum
	}
	var r record
	if err := json.Unmarshal(text, &r); err != nil {
		return record{}, err
	}
	if (r.Put == nil) == (r.Drop == "") || r.Put != nil && (r.Put.ID == "" || r.Put.Pool == "") {
		return record{}, errNoRecord
	}
	return r, nil
}

func sum(text []byte) []byte {
	return binary.BigEndian.AppendUint32(make([]byte, 0, 4), crc32.Checksum(text, castagnoli))
}
