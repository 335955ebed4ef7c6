package gate

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"strconv"
	"time"

	"github.com/pool-managerd/pool-managerd/nvml/classify"
)

// logWithin bounds the look at the engine's log, journalctl's own start included. A start that is fine takes a fraction of it.
const logWithin = 2 * time.Second

// gpuLog looks for the line by which an engine that was given a GPU says that it runs without one.
type gpuLog struct {
	engine     string // the kind, as in a pool file
	invocation string
	journalctl string // the program
	log        *log.Logger
}

// fallback returns why the engine runs on the CPU, with its own line; "" where no line says so. A journal that cannot be read lets the engine
// pass, with a line that says so.
//
// What the engine wrote a moment ago may not be in the journal yet. So the log is read until the line that the gate itself has just written, mark, has
// come back: the journal takes the output of a unit's processes in turn, so that what was written before is there too.
func (g *gpuLog) fallback(ctx context.Context, mark string) (why string) {
	if g.invocation == "" {
		g.pass("INVOCATION_ID is not set")
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, logWithin)
	defer cancel()
	cmd := exec.CommandContext(ctx, g.journalctl, "--quiet", "--follow", "--no-tail", "--all", "--output=json",
		"--output-fields=_PID,MESSAGE", "_SYSTEMD_INVOCATION_ID="+g.invocation)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		g.pass(err.Error())
		return ""
	}
	why, err = g.read(out, mark)
	switch {
	case err == nil:
	case ctx.Err() != nil:
		g.pass("the journal did not answer within " + logWithin.String())
	default:
		g.pass(err.Error())
	}
	_ = cmd.Process.Kill()
	_, _ = io.Copy(io.Discard, out)
	_ = cmd.Wait()
	return why
}

// read goes through the lines up to the gate's own, or the first by which the engine tells. An error says that there was neither.
func (g *gpuLog) read(out io.Reader, mark string) (why string, err error) {
	scanner := bufio.NewScanner(out)
	scanner.Buffer(make([]byte, 0, 4096), 1<<20)
	for scanner.Scan() {
		pid, text := logLine(scanner.Bytes())
		if pid == os.Getpid() {
			if text == mark {
				return "", nil
			}
			continue
		}
		if reason, found := classify.Fallback(g.engine, text); found {
			return fmt.Sprintf("%s; its log says %q", reason, cut(text, 200)), nil
		}
	}
	if err := scanner.Err(); err != nil {
		return "", err
	}
	return "", errors.New("journalctl ended")
}

func (g *gpuLog) pass(why string) {
	g.log.Println("the engine's log cannot be read, so nobody knows yet whether it uses its GPU:", why)
}

// logLine reads the writer and the text of one JSON line. journalctl writes a text with unprintable characters, such as colours, as an array
// of bytes.
func logLine(line []byte) (pid int, text string) {
	var fields struct {
		PID     string          `json:"_PID"`
		Message json.RawMessage `json:"MESSAGE"`
	}
	if json.Unmarshal(line, &fields) != nil {
		return 0, ""
	}
	pid, _ = strconv.Atoi(fields.PID)
	if json.Unmarshal(fields.Message, &text) == nil {
		return pid, text
	}
	var list []uint8
	_ = json.Unmarshal(fields.Message, &list) // what is neither is no text of an engine
	return pid, string(list)
}

// cut shortens a line of the engine's to so many bytes.
func cut(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return text[:most] + "…"
}
