package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
)

// fakeDriver is the socket at which the fake driver of test/fakegpu gives memory to engines.
const fakeDriver = "/run/fakegpu/take.sock"

// takeMemory takes the memory of each visible device, and holds it until the closer is closed or
// the process ends. Where there is not enough it logs so in llama.cpp's words.
func takeMemory(o options, log io.Writer) (io.Closer, error) {
	if o.VRAM == 0 || o.Masked == "" {
		return io.NopCloser(nil), nil
	}
	wish := make(map[string]uint64)
	for _, uuid := range strings.Split(o.Masked, ",") {
		wish[uuid] = o.VRAM
	}
	line, err := json.Marshal(wish)
	if err != nil {
		return nil, err
	}
	c, err := net.Dial("unix", o.Driver)
	if err != nil {
		return nil, err
	}
	if _, err := c.Write(append(line, '\n')); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	answer, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	if answer = strings.TrimSpace(answer); answer != "ok" {
		fmt.Fprintf(log, "ggml_backend_cuda_buffer_type_alloc_buffer: allocating %d bytes on device 0: cudaMalloc "+
			"failed: %s\n", o.VRAM, answer)
		return nil, errors.Join(errors.New("the model could not be loaded"), c.Close())
	}
	return c, nil
}

// openNode returns what becomes of opening a device node from inside the sandbox: "opened", or the
// errno by name.
func openNode(w http.ResponseWriter, r *http.Request) {
	f, err := os.OpenFile(r.URL.Query().Get("path"), os.O_RDWR|syscall.O_NONBLOCK, 0)
	if err != nil {
		fmt.Fprintln(w, err)
		return
	}
	f.Close()
	fmt.Fprintln(w, "opened")
}
