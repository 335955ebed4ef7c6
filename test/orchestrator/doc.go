// Package orchestrator is a client of pool-managerd as programs are that place work on hosts: it
// finds engines by their hand-off files, asks pools for their status, takes, renews and returns
// leases, waits as long as requested, drains, reloads, and has hosts start
// engines that it has prepared.
//
// It owns shapes of its own, written from the documented contract and decoded strictly: a field of
// another type, or one that is missing, is an error, as it is to the programs that exist. It must
// import nothing of the product, and knows no test machine: how it reaches the API and the files is
// handed to it.
package orchestrator
