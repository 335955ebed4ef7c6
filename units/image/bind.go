package image

import (
	"bytes"
	"encoding/csv"
	"strings"
)

// Bind is the option of podman and docker that shows a path of the host in a container.
func Bind(path, inside string, options ...string) string {
	var b bytes.Buffer
	w := csv.NewWriter(&b) // as both read it: a path may have a comma
	fields := append([]string{"type=bind", "source=" + path, "destination=" + inside}, options...)
	// A buffer takes everything that it is given.
	_ = w.Write(fields)
	w.Flush()
	return "--mount=" + strings.TrimSuffix(b.String(), "\n")
}
