package systemd

import "sync"

// queue is an unbounded first-in first-out queue between goroutines: push never blocks, so a slow
// consumer never blocks the goroutine that reads the connection.
type queue[T any] struct {
	mu    sync.Mutex
	items []T
	// wake holds a token while there may be something to take.
	wake chan struct{}
}

func newQueue[T any]() *queue[T] {
	return &queue[T]{wake: make(chan struct{}, 1)}
}

func (q *queue[T]) push(item T) {
	q.mu.Lock()
	q.items = append(q.items, item)
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// take returns everything pushed so far, in order; nil when there is nothing.
func (q *queue[T]) take() []T {
	q.mu.Lock()
	defer q.mu.Unlock()
	items := q.items
	q.items = nil
	return items
}
