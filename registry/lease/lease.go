// Package lease keeps the book of leases of slots, which many callers take, renew and release at
// the same time. Leases expire by themselves and survive a crash of the manager.
//
// It owns the counting, and the guarantee that an acknowledged lease is in the store. It must not
// know how an engine is started, why a pool drains, HTTP, or how the store writes.
package lease

import (
	"crypto/rand"
	"errors"
	"fmt"
	"time"
)

// Lease is one slot held by a caller.
type Lease struct {
	ID       string `json:"id"`
	Pool     string `json:"pool"`
	Replica  string `json:"replica"`
	Run      string `json:"run"` // a lease ends with this process of the engine
	Holder   string `json:"holder,omitempty"`
	Endpoint string `json:"endpoint,omitempty"`
	Expires  Moment `json:"expires"`
	Taken    Moment `json:"taken,omitempty"` // 0: by a manager that did not note it
	// Lost is why it ended before it was released. Such a lease has no slot: it is stored so that
	// the next manager knows the reason, too.
	Lost string `json:"lost,omitempty"`
	// Key is what its caller chose so that the same request again is this lease; empty: none. Sum
	// is of the request: another one with the key differs in it.
	Key string `json:"key,omitempty"`
	Sum string `json:"sum,omitempty"`
}

// Ask is a request for a lease.
type Ask struct {
	Pool, Replica, Holder string        // Replica is empty for the least loaded one
	TTL                   time.Duration // 0: DefaultTTL
	Key, Sum              string        // as in Lease
}

// Moment is a time since boot that includes suspend (CLOCK_BOOTTIME of clock_gettime(2)): neither
// setting the clock nor a restart of the manager moves a deadline. The book is of one boot.
type Moment int64 // nanoseconds

// Add returns the moment d later.
func (m Moment) Add(d time.Duration) Moment { return m + Moment(d) }

// Sub returns the time from n to m.
func (m Moment) Sub(n Moment) time.Duration { return time.Duration(m - n) }

// Seat is a replica as seen by the book.
type Seat struct {
	Replica  string
	Stable   string // its name, stable over reloads, which a lease may request instead; may be empty
	Run      string // of the running process; empty without one
	Endpoint string
	Slots    int
	Open     bool // it takes new leases
}

// Pool is the state of a pool that leases depend on.
type Pool struct {
	Draining bool
	// RenewUntil is the drain's deadline: no lease of the pool lives longer. Zero: no drain.
	RenewUntil Moment
	Seats      []Seat
}

// Bounds of a lease's time to live.
const (
	MinTTL     = time.Second
	MaxTTL     = 24 * time.Hour
	DefaultTTL = 30 * time.Second
)

// MaxHolder bounds a holder's name, in bytes.
const MaxHolder = 128

// Why a call was refused.
var (
	ErrNoPool    = errors.New("no such pool")
	ErrDraining  = errors.New("the pool is draining")
	ErrNotReady  = errors.New("no replica of the pool is ready")
	ErrExhausted = errors.New("every slot of the pool is in use")
	ErrUnknown   = errors.New("no such lease")
	ErrLost      = errors.New("the lease is lost")
	ErrStore     = errors.New("the lease could not be saved")
	ErrKeyUsed   = errors.New("another request has the key")
)

// LostError is why a lease ended before its holder released it.
type LostError struct {
	ID, Why string
}

func (e *LostError) Error() string { return fmt.Sprintf("lease %s is lost: %s", e.ID, e.Why) }

// Is makes a LostError an ErrLost.
func (e *LostError) Is(target error) bool { return target == ErrLost }

// Ended is a lease that ended by itself, and why.
type Ended struct {
	Lease
	Why string
}

// newID returns an id that cannot be guessed: 130 random bits.
func newID() string { return "l-" + rand.Text() }
