package provision

import (
	"context"
	"sync"
)

// questions lets one caller at a time ask for each key. Callers that come meanwhile share the
// answer, or the failure; the next one after that asks again. A caller that gives up affects no
// other: if it was the one that asked, one of the waiting callers asks instead. No goroutine is
// started. The zero value is usable.
type questions struct {
	mu    sync.Mutex
	asked map[string]*question // under way, by key
}

// question is one that is under way. Its other fields are set before done is closed.
type question struct {
	done    chan struct{}
	given   bool // the answer counts: the caller that asked did not give up
	answer  string
	failure error
}

// ask returns f's answer for key, or that of a call that was running already.
func (q *questions) ask(ctx context.Context, key string, f func(context.Context) (string, error)) (string, error) {
	for {
		mine, other := q.enter(key)
		if mine != nil {
			return q.lead(ctx, key, mine, f)
		}
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case <-other.done:
			if other.given {
				return other.answer, other.failure
			}
		}
	}
}

// enter returns a new question, or the one that is under way.
func (q *questions) enter(key string) (mine, other *question) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if other := q.asked[key]; other != nil {
		return nil, other
	}
	if q.asked == nil {
		q.asked = make(map[string]*question)
	}
	mine = &question{done: make(chan struct{})}
	q.asked[key] = mine
	return mine, nil
}

// lead asks, and lets those that wait go on, also after a panic.
func (q *questions) lead(ctx context.Context, key string, mine *question,
	f func(context.Context) (string, error)) (string, error) {
	defer func() {
		q.mu.Lock()
		delete(q.asked, key)
		q.mu.Unlock()
		close(mine.done)
	}()
	answer, failure := f(ctx)
	mine.answer, mine.failure, mine.given = answer, failure, ctx.Err() == nil
	return answer, failure
}
