// Package sandbox finds by running what engines need of the sandbox: each program of the directory
// engines runs in the unit that a pool file leads to, with everything relaxed, with one
// relaxation missing at a time, and with only those that were needed.
//
// It owns the programs and the table that `make sandbox-table` prints. What may be relaxed is
// relax.Table.
package sandbox
