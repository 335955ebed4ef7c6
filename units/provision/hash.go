package provision

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pool-managerd/pool-managerd/units/bring"
	"github.com/pool-managerd/pool-managerd/units/regular"
)

// A file is read by one goroutine and hashed by another, hashAhead chunks ahead at most. A chunk is
// small enough to still be in the processor's cache when it is hashed.
const (
	hashChunk = 256 << 10 // bytes
	hashAhead = 4
)

// chunk is a part of a file, or why there is none.
type chunk struct {
	data []byte
	err  error // io.EOF at the end; data may be there beside it
}

// hashFile reads a file to its end, and reports now and then how far it is.
func (s *Stager) hashFile(ctx context.Context, path string, size int64) (string, error) {
	f, _, err := regular.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	_ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_SEQUENTIAL) // only a hint: the kernel reads twice as far ahead
	read, used := make(chan chunk, hashAhead), make(chan []byte, hashAhead)
	for range hashAhead {
		used <- make([]byte, hashChunk)
	}
	go readChunks(f, read, used)
	defer func() {
		close(used)
		for range read { // until the reader has ended
		}
	}()
	sum := sha256.New()
	var done int64
	mention := time.Now().Add(progressEvery)
	for c := range read {
		if ctx.Err() != nil {
			break
		}
		_, _ = sum.Write(c.data) // a hash never fails
		done += int64(len(c.data))
		switch {
		case errors.Is(c.err, io.EOF):
			return hex.EncodeToString(sum.Sum(nil)), nil
		case c.err != nil:
			return "", bring.Cause(c.err)
		}
		used <- c.data[:cap(c.data)]
		if now := time.Now(); now.After(mention) {
			mention = now.Add(progressEvery)
			s.Log.Info("still verifying the model's digest", "model_file", path, "done_bytes", done, "size_bytes", size)
		}
	}
	return "", ctx.Err()
}

// readChunks reads f into buffers that were used before, until its end, an error, or the end of
// used. It closes read.
func readChunks(f io.Reader, read chan<- chunk, used <-chan []byte) {
	defer close(read)
	for buffer := range used {
		n, err := f.Read(buffer)
		read <- chunk{buffer[:n], err}
		if err != nil {
			return
		}
	}
}
