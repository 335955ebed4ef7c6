package fetch

import (
	"cmp"
	"context"
	"path"
	"slices"
	"sync"
	"time"
)

// queue gives out what is left to fetch: the next pieces of the first file that has some, so that
// its prefix grows, and else the next file. So a large file is fetched by all workers, and small
// ones side by side.
type queue struct {
	mu      sync.Mutex
	changed *sync.Cond
	waiting []*file
	open    []*blob
	left    int // files that are not complete
	most    int // files open at the same time
	stopped bool
}

func newQueue(files []*file, most int) *queue {
	q := &queue{waiting: files, left: len(files), most: most}
	q.changed = sync.NewCond(&q.mu)
	return q
}

// next returns the next part to fetch, once there is one; ok is false when there is nothing left.
// begin opens a file and arranges for it to be finished.
func (q *queue) next(most int64, begin func(*file) (*blob, error)) (b *blob, s span, ok bool, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for {
		if q.stopped || q.left == 0 {
			return nil, span{}, false, nil
		}
		for _, b := range q.open {
			if s, ok := b.take(most); ok {
				b.workers.Add(1)
				return b, s, true, nil
			}
		}
		if len(q.waiting) > 0 && len(q.open) < q.most {
			f := q.waiting[0]
			q.waiting = q.waiting[1:]
			b, err := begin(f)
			if err != nil {
				return nil, span{}, false, err
			}
			q.open = append(q.open, b)
			continue
		}
		q.changed.Wait()
	}
}

// ended removes a file that is no longer open; again puts it back for another attempt.
func (q *queue) ended(b *blob, again bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.open = slices.DeleteFunc(q.open, func(o *blob) bool { return o == b })
	if again {
		q.waiting = append(q.waiting, b.file)
	} else {
		q.left--
	}
	q.changed.Broadcast()
}

// stop ends all waits.
func (q *queue) stop() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.stopped = true
	q.changed.Broadcast()
}

// now returns how many bytes of open files are there, and the name of the first of them.
func (q *queue) now() (have int64, name string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, b := range q.open {
		b.mu.Lock()
		have += b.have
		b.mu.Unlock()
		if name == "" {
			name = b.file.path
		}
	}
	return have, name
}

// sortFiles sorts by path, but small files of a model after its weights would only make its end
// later: they are first.
func sortFiles(files []*file) {
	slices.SortFunc(files, func(a, b *file) int {
		return cmp.Or(cmp.Compare(class(a), class(b)), cmp.Compare(a.path, b.path))
	})
}

func class(f *file) int {
	switch path.Ext(f.path) {
	case ".gguf", ".safetensors", ".bin", ".pt", ".pth":
		return 1
	}
	return 0
}

// limiter bounds the rate of all workers together.
type limiter struct {
	rate int64 // bytes a second; 0: none

	mu   sync.Mutex
	next time.Time // when the bytes so far are paid for
}

// chunk returns how much is taken at once, so that a low rate is an even one.
func (l *limiter) chunk(most int) int {
	if l.rate == 0 {
		return most
	}
	return int(min(int64(most), max(l.rate/8, 1024)))
}

// take waits until n more bytes are within the rate.
func (l *limiter) take(ctx context.Context, n int) error {
	if l.rate == 0 {
		return nil
	}
	l.mu.Lock()
	now := time.Now()
	if l.next.Before(now) {
		l.next = now
	}
	wait := l.next.Sub(now)
	l.next = l.next.Add(time.Duration(float64(n) / float64(l.rate) * float64(time.Second)))
	l.mu.Unlock()
	if wait < time.Millisecond {
		return ctx.Err()
	}
	return sleep(ctx, wait)
}
