// Package tree tests the source tree itself: who may import whom, how long a file may be, that what
// the docs promise is held by a test that exists, that the programs are static.
//
// It reads files and builds the programs. It must not import any package of the product: a rule
// about the tree holds whatever the code does.
package tree
