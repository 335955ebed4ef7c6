// Package mutate has a fuzz target try millions of inputs in a test that is not instrumented for
// coverage: go test -fuzz looks at all counters of the binary after each input, and so tries some
// ten thousand of them a second whatever the target is. Inputs here are changes of those that the
// target begins with and of those that coverage has found, and are not guided further. Run by
// make fuzz MANY=N; in every other run the targets are as they were.
//
// It knows no target, and is used by tests alone.
package mutate
