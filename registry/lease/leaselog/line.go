package leaselog

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"strconv"
	"strings"

	"github.com/pool-managerd/pool-managerd/registry/lease"
)

// The first line names the format. Each later line is a record: the checksum of the JSON text in
// eight hexadecimal digits, a space, the text.
const (
	headerPrefix = "# pool-managerd leases, format "
	format       = 2 // 1 was a bbolt file, which has no such line
	sumDigits    = 8
)

// maxLine bounds a line, in bytes with its end.
const maxLine = 64 << 10

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// record is one change: exactly one of the two is set.
type record struct {
	Put  *lease.Lease `json:"put,omitempty"`
	Drop string       `json:"drop,omitempty"`
}

var (
	errHeader   = errors.New("the first line is not that of a file of leases")
	errNoRecord = errors.New("the line is no record")
	errChecksum = errors.New("the checksum of the line is wrong")
)

func headerLine() string { return headerPrefix + strconv.Itoa(format) + "\n" }

// checkHeader reports what is wrong with the first line, which has no end.
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

// appendRecord appends a record's line to buf.
func appendRecord(buf []byte, r record) ([]byte, error) {
	text, err := json.Marshal(r)
	if err != nil {
		return buf, err
	}
	if sumDigits+1+len(text)+1 > maxLine {
		return buf, fmt.Errorf("a record of %d bytes is too long", len(text))
	}
	buf = slices.Grow(buf, sumDigits+len(text)+2)
	buf = hex.AppendEncode(buf, sum(text))
	buf = append(buf, ' ')
	buf = append(buf, text...)
	return append(buf, '\n'), nil
}

// parseRecord reads a line, which has no end. An error means no record.
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
	return binary.BigEndian.AppendUint32(nil, crc32.Checksum(text, castagnoli))
}
