package fetch

import "time"

// settings are the times and sizes of a fetch, which tests make smaller.
type settings struct {
	stall    time.Duration // without a byte
	connect  time.Duration // to all addresses of a host
	tries    int           // without a byte, until a fetch gives up
	backoff  time.Duration // before the second try; it doubles
	pause    time.Duration // the longest that is waited for because the other side asks for it
	tick     time.Duration // between two lines of progress
	lockWait time.Duration // for another program that fetches into the same directory
	piece    int64         // bytes, of what is lost at a kill, for each connection

	// Of peers, which are near: a source that is far is not waited for instead.
	peerStall  time.Duration // without a byte, and to all addresses
	peerWindow time.Duration // over which the rate is looked at
	peerRate   int64         // bytes a second of one connection that are too few
}

// The stall and the number of tries are those of huggingface_hub.
func defaults() settings {
	return settings{stall: 10 * time.Second, connect: 10 * time.Second, tries: 5, backoff: time.Second,
		pause: time.Minute, tick: time.Second, lockWait: 5 * time.Minute, piece: 1 << 20,
		peerStall: 5 * time.Second, peerWindow: 5 * time.Second, peerRate: 256 << 10}
}
