package boltfile

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"slices"
)

// bbolt trusts its file: damaged pages make it panic, in goroutines of its own too, or recurse
// without end. The pages are therefore checked, and their entries read, before it sees them.
// The layout has not changed since version 2 of the format (2014); numbers are in the host's order.
const (
	pageHeader = 16 // id, flags, count, overflow
	element    = 16 // of a branch: pos, ksize, child; of a leaf: flags, pos, ksize, vsize
	bucketSize = 16 // root, sequence

	flagBranch   = 0x01
	flagLeaf     = 0x02
	flagFreelist = 0x10
	flagBucket   = 0x01 // of a leaf's element

	minPage    = 512
	maxPage    = 1 << 16
	metaSize   = 56 // without the checksum
	magic      = 0xED0CDAED
	version    = 2
	noFreelist = ^uint64(0)

	// manyIDs in the count of a freelist says that the count is in the first id's place.
	manyIDs = 0xFFFF
)

var order = binary.NativeEndian

// maxFile bounds what is read into memory. What is kept here are some thousand short records.
const maxFile = 1 << 30

// contents are the entries of the file's top buckets.
type contents map[string]map[string][]byte

// meta is a page with the positions of the root and the freelist.
type meta struct {
	pageSize, root, freelist, pages, tx uint64
}

// reader walks the pages of a file.
type reader struct {
	data []byte
	meta
	used map[uint64]bool // pages that something points to
	got  contents
	errs []error
}

// parse returns the readable entries of a file, and its damage.
func parse(r io.Reader) (contents, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	switch {
	case err != nil:
		return nil, err
	case len(data) == 0:
		return nil, errors.New("the file is empty")
	case len(data) > maxFile:
		return nil, fmt.Errorf("the file is larger than %d bytes", maxFile)
	}
	m, both, err := findMeta(data)
	if err != nil {
		return nil, err
	}
	f := reader{data: data, meta: m, used: make(map[uint64]bool), got: make(contents)}
	if !both {
		f.bad(errors.New("one of the two first pages is damaged; the newest change may be missing"))
	}
	if size := m.pages * m.pageSize; uint64(len(data)) < size {
		f.bad(fmt.Errorf("the file is cut off: %d bytes of %d are there", len(data), size))
	}
	f.walk(m.root, f.bucket)
	f.freelistPage()
	return f.got, errors.Join(f.errs...)
}

// findMeta returns the newer of the two meta pages, which take turns. Where the other is not good,
// it may have been the newer one, and whole is false.
func findMeta(data []byte) (best meta, whole bool, err error) {
	var found []meta
	for at := 0; at+pageHeader+metaSize+8 <= len(data) && at <= maxPage; at = max(minPage, 2*at) {
		if m, ok := readMeta(data[at+pageHeader:]); ok && (at == 0 || m.pageSize == uint64(at)) {
			found = append(found, m)
		}
	}
	if len(found) == 0 {
		return meta{}, false, errors.New("the first pages are not those of a bbolt file")
	}
	best = slices.MaxFunc(found, func(a, b meta) int { return cmp.Compare(a.tx, b.tx) })
	return best, len(found) == 2, nil
}

func readMeta(b []byte) (meta, bool) {
	sum := fnv.New64a()
	_, _ = sum.Write(b[:metaSize])
	m := meta{pageSize: uint64(order.Uint32(b[8:])), root: order.Uint64(b[16:]), freelist: order.Uint64(b[32:]),
		pages: order.Uint64(b[40:]), tx: order.Uint64(b[48:])}
	good := order.Uint32(b) == magic && order.Uint32(b[4:]) == version && order.Uint64(b[metaSize:]) == sum.Sum64()
	sane := m.pageSize >= minPage && m.pageSize <= maxPage && m.pageSize&(m.pageSize-1) == 0 &&
		m.pages <= maxFile/minPage
	return m, good && sane
}

func (f *reader) bad(err error) { f.errs = append(f.errs, err) }

// page returns a page with those that it runs over into, nil where it cannot be one of that kind.
func (f *reader) page(id uint64, kinds ...uint16) (p []byte, kind uint16) {
	start := id * f.pageSize
	if id < 2 || id >= f.pages || start+f.pageSize > uint64(len(f.data)) {
		f.bad(fmt.Errorf("page %d is outside of the file", id))
		return nil, 0
	}
	p = f.data[start:]
	kind = order.Uint16(p[8:])
	last := id + uint64(order.Uint32(p[12:]))
	switch {
	case order.Uint64(p) != id || !slices.Contains(kinds, kind):
		f.bad(fmt.Errorf("page %d is damaged", id))
		return nil, 0
	case last >= f.pages || (last+1)*f.pageSize > uint64(len(f.data)):
		f.bad(fmt.Errorf("page %d is cut off", id))
		return nil, 0
	}
	for n := id; n <= last; n++ {
		if f.used[n] {
			f.bad(fmt.Errorf("page %d is used twice", n))
			return nil, 0
		}
		f.used[n] = true
	}
	return p[:(last+1-id)*f.pageSize], kind
}
