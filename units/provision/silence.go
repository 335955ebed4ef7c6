package provision

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/pool-managerd/pool-managerd/units/bring"
)

// Bounds of one question for a version. A program prints it as soon as it is loaded. A script,
// which most engines in Python are, imports for many seconds before: a real vLLM took 30 to 60 on a
// loaded host with two cores.
const (
	programTimeout = 20 * time.Second
	scriptTimeout  = 3 * time.Minute
)

// askAgain is after what time a program that did not answer is asked again.
const askAgain = 10 * time.Minute

// questionTimeout returns the bound for an engine's binary: a script, or an interpreter of Python
// that is given what to import, has the long one.
func questionTimeout(binary string) time.Duration {
	if isScript(binary) || strings.HasPrefix(filepath.Base(binary), "python") {
		return scriptTimeout
	}
	return programTimeout
}

func isScript(binary string) bool {
	f, err := os.Open(binary)
	if err != nil {
		return false
	}
	defer f.Close()
	head, err := bring.Head(f, 2)
	return err == nil && string(head) == "#!"
}

// silence holds the questions that had no answer in time, so that the next preparations of an
// engine do not wait for it too. The zero value is empty. Its methods may be called from many
// goroutines.
type silence struct {
	mu sync.Mutex
	at map[string]time.Time // by the question's key
}

// add notes a question, and drops those that may be asked again.
func (u *silence) add(key string, now time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for other, at := range u.at {
		if now.Sub(at) >= askAgain {
			delete(u.at, other)
		}
	}
	if u.at == nil {
		u.at = make(map[string]time.Time)
	}
	u.at[key] = now
}

// has reports whether a question had no answer a short time ago.
func (u *silence) has(key string, now time.Time) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	at, noted := u.at[key]
	return noted && now.Sub(at) < askAgain
}
