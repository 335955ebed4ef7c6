package fetch

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/pool-managerd/pool-managerd/units/fetch/wire"
)

// blob is one file while it is incomplete: a file of its final size with holes, and beside it a
// file that says which pieces are there. Both are in the page cache when a piece counts, so that a
// kill loses nothing but pieces that were under way. After a power cut a piece may count that is
// not there; the digest finds that, and the file is fetched again.
type blob struct {
	file   *file
	cache  *cache
	piece  int64
	data   *os.File
	state  *os.File // nil where the size is unknown: such a file cannot be resumed
	offset int64    // of the first piece's byte in state

	workers sync.WaitGroup // that may write

	asking sync.Mutex // one worker asks for the place, the others wait
	at     *place

	mu      sync.Mutex
	changed *sync.Cond
	done    []bool
	given   []bool // done, or with a worker
	first   int    // the first piece that is not done
	size    int64  // -1 until it is known
	prefix  int64  // bytes from the beginning that are there
	have    int64  // bytes that are there
	stream  bool   // the server sends whole files only
	resumed bool   // some of it is from a former run
	closed  error  // why nothing else will come
}

// header is the first line of a state file.
func stateHeader(size, piece int64) string {
	return fmt.Sprintf("pool-fetch ranges %d %d\n", size, piece)
}

// openBlob opens what a former run left of a file, or begins it.
func openBlob(c *cache, f *file, piece int64) (*blob, error) {
	b := &blob{file: f, cache: c, piece: piece, size: f.size}
	b.changed = sync.NewCond(&b.mu)
	var err error
	b.data, err = c.root.OpenFile(b.name(incomplete), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, onDisk(err)
	}
	if b.size < 0 {
		return b, onDisk(b.data.Truncate(0))
	}
	n := int((b.size + piece - 1) / piece)
	b.done, b.given = make([]bool, n), make([]bool, n)
	if b.state, err = c.root.OpenFile(b.name(ranges), os.O_RDWR|os.O_CREATE, 0o644); err == nil {
		err = b.resume()
	}
	if err != nil {
		b.close()
		return nil, onDisk(err)
	}
	return b, nil
}

func (b *blob) name(suffix string) string { return "blobs/" + b.file.blob + suffix }

// resume reads the state of a former run. One of another size, or without its file, is dropped.
func (b *blob) resume() error {
	head := stateHeader(b.size, b.piece)
	b.offset = int64(len(head))
	want := len(head) + len(b.done)
	text, err := io.ReadAll(io.LimitReader(b.state, int64(want)+1))
	if err != nil {
		return err
	}
	info, err := b.data.Stat()
	if err != nil {
		return err
	}
	if len(text) != want || !bytes.HasPrefix(text, []byte(head)) || info.Size() != b.size {
		return b.begin()
	}
	for i, c := range text[len(head):] {
		if c == '1' {
			b.done[i], b.given[i] = true, true
			b.have += b.end(i) - int64(i)*b.piece
			b.resumed = true
		}
	}
	b.advance()
	return nil
}

// begin drops what is there.
func (b *blob) begin() error {
	clear(b.done)
	clear(b.given)
	b.first, b.prefix, b.have, b.resumed = 0, 0, 0, false
	head := stateHeader(b.size, b.piece)
	if err := b.state.Truncate(0); err != nil {
		return err
	}
	if err := b.data.Truncate(0); err != nil {
		return err
	}
	if err := b.data.Truncate(b.size); err != nil {
		return err
	}
	_, err := b.state.WriteAt(append([]byte(head), bytes.Repeat([]byte{'0'}, len(b.done))...), 0)
	return err
}

// end returns the offset behind a piece.
func (b *blob) end(i int) int64 { return min(int64(i+1)*b.piece, b.size) }

// advance moves the prefix over pieces that are done.
func (b *blob) advance() {
	for b.first < len(b.done) && b.done[b.first] {
		b.prefix = b.end(b.first)
		b.first++
	}
}

// span is a part of a file that a worker fetches: bytes from at up to, not including, to. A file of
// unknown size, or one that is sent whole only, has one span: all of it.
type span struct {
	at, to int64
	whole  bool
}

// take gives out the next pieces that no worker has, at most so many bytes.
func (b *blob) take(most int64) (span, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.size < 0 {
		taken := b.stream
		b.stream = true
		return span{0, -1, true}, !taken && b.closed == nil
	}
	if b.stream || b.closed != nil {
		return span{}, false
	}
	for i := b.first; i < len(b.given); i++ {
		if b.given[i] {
			continue
		}
		s := span{at: int64(i) * b.piece}
		for ; i < len(b.given) && !b.given[i] && (s.to == 0 || b.end(i)-s.at <= most); i++ {
			b.given[i] = true
			s.to = b.end(i)
		}
		s.whole = s.at == 0 && s.to == b.size
		return s, true
	}
	return span{}, false
}

// only makes the caller the one that writes the file, from its beginning; false if there is one
// already.
func (b *blob) only() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stream {
		return false
	}
	b.stream = true
	return true
}

// write writes bytes at an offset, which follow on the span's former ones, and counts the piece
// that they complete.
func (b *blob) write(p []byte, at int64) error {
	if _, err := b.data.WriteAt(p, at); err != nil {
		return onDisk(err)
	}
	end := at + int64(len(p))
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.size < 0 {
		b.prefix, b.have = end, end
		b.changed.Broadcast()
		return nil
	}
	for i := int(at / b.piece); i < len(b.done) && b.end(i) <= end; i++ {
		if b.done[i] {
			continue
		}
		if _, err := b.state.WriteAt([]byte{'1'}, b.offset+int64(i)); err != nil {
			return onDisk(err)
		}
		b.done[i], b.given[i] = true, true
		b.have += b.end(i) - int64(i)*b.piece
	}
	b.advance()
	b.changed.Broadcast()
	return nil
}

// ends is called once, with the size of a file whose size was unknown.
func (b *blob) ends(size int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.size = size
	b.changed.Broadcast()
}

// abandon ends the wait for more.
func (b *blob) abandon(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed == nil {
		b.closed = err
	}
	b.changed.Broadcast()
}

// wait returns how many bytes from the beginning are there, once there are more than so many, and
// whether that is all.
func (b *blob) wait(than int64) (prefix int64, all bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.prefix <= than && b.prefix != b.size && b.closed == nil {
		b.changed.Wait()
	}
	return b.prefix, b.prefix == b.size, b.closed
}

// hashChunk is small enough to be in the processor's cache when it is hashed, in bytes.
const hashChunk = 256 << 10

// verify follows the writers with the sum of what is there, and returns it once all is. It reads
// from the page cache what was written a moment ago.
func (b *blob) verify(ctx context.Context) (string, error) {
	stop := context.AfterFunc(ctx, func() { b.abandon(context.Cause(ctx)) })
	defer stop()
	h := b.file.sum.hash(b.file.size)
	buffer := make([]byte, hashChunk)
	for at := int64(0); ; {
		prefix, all, err := b.wait(at)
		if err != nil {
			return "", err
		}
		if err := b.sum(ctx, h, buffer, at, prefix); err != nil {
			return "", err
		}
		// The disk begins now with what would otherwise all be written at the end.
		_ = unix.SyncFileRange(int(b.data.Fd()), at, prefix-at, unix.SYNC_FILE_RANGE_WRITE)
		if at = prefix; all {
			return hex.EncodeToString(h.Sum(nil)), nil
		}
	}
}

func (b *blob) sum(ctx context.Context, h hash.Hash, buffer []byte, at, to int64) error {
	for at < to {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n, err := b.data.ReadAt(buffer[:min(int64(len(buffer)), to-at)], at)
		_, _ = h.Write(buffer[:n]) // a hash never fails
		at += int64(n)
		if err != nil && !(errors.Is(err, io.EOF) && at == to) {
			return onDisk(fmt.Errorf("read back %s: %w", b.name(incomplete), err))
		}
	}
	return nil
}

// finish gives a file that is whole its name, and removes what is left of its being incomplete.
// The name of a file without a known digest is that of its content.
func (b *blob) finish(sum string) error {
	if err := b.data.Sync(); err != nil {
		return onDisk(err)
	}
	from := b.name(incomplete)
	state := b.name(ranges)
	b.file.size = b.size
	if b.file.sum.algorithm == "" {
		b.file.blob, b.file.sum.algorithm, b.file.sum.hex = sum, bySHA256, sum
	}
	if err := b.cache.root.Rename(from, b.name("")); err != nil {
		return onDisk(err)
	}
	_ = b.cache.root.Remove(state) // one without its file is dropped by the next run
	return nil
}

// setAside keeps a file with another digest than wanted under a name that no program reads.
func (b *blob) setAside(sum string) error {
	to := b.name(wrong)
	if err := b.cache.root.Rename(b.name(incomplete), to); err != nil {
		return onDisk(err)
	}
	_ = b.cache.root.Remove(b.name(ranges))
	return &Failure{Reason: wire.DigestMismatch,
		Message: fmt.Sprintf("%s has the digest %s; %s was expected. It was set aside as %s", b.file.path, sum,
			b.file.sum.hex, b.cache.dir+"/"+to),
		Hint: "Remove that file. If the digest is from the pool file, correct it; otherwise the file was changed on " +
			"its way."}
}

// drop removes what is there of a file.
func (b *blob) drop() error {
	if err := b.cache.root.Remove(b.name(ranges)); err != nil {
		return onDisk(err)
	}
	return onDisk(b.cache.root.Remove(b.name(incomplete)))
}

func (b *blob) close() {
	b.data.Close()
	if b.state != nil {
		b.state.Close()
	}
}
