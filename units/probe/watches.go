package probe

import (
	"container/heap"
	"time"
)

// watches are ordered by their time, the earliest first.
type watches struct{ heap watchHeap }

// add lets a watch wait for its time.
func (d *watches) add(w *Watch) { heap.Push(&d.heap, w) }

// drop takes a watch out, if it is there.
func (d *watches) drop(w *Watch) {
	if w.index > 0 {
		heap.Remove(&d.heap, w.index-1)
	}
}

// first is the earliest time; zero where none waits.
func (d *watches) first() time.Time {
	if len(d.heap) == 0 {
		return time.Time{}
	}
	return d.heap[0].at
}

// take returns the watches whose time has come.
func (d *watches) take(now time.Time) (taken []*Watch) {
	for len(d.heap) > 0 && !d.heap[0].at.After(now) {
		taken = append(taken, heap.Pop(&d.heap).(*Watch))
	}
	return taken
}

// watchHeap is what container/heap orders.
type watchHeap []*Watch

func (h watchHeap) Len() int           { return len(h) }
func (h watchHeap) Less(i, j int) bool { return h[i].at.Before(h[j].at) }

func (h watchHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i+1, j+1
}

// Push implements heap.Interface.
func (h *watchHeap) Push(x any) {
	w := x.(*Watch)
	*h = append(*h, w)
	w.index = len(*h)
}

// Pop implements heap.Interface.
func (h *watchHeap) Pop() any {
	last := len(*h) - 1
	w := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	w.index = 0
	return w
}
