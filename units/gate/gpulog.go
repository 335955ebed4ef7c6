package gate

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pool-managerd/pool-managerd/nvml/classify"
	engines "github.com/pool-managerd/pool-managerd/units/engine"
)

// logWithin bounds the reading of the engine's log, including the start of journalctl. It usually
// takes a fraction of a second; it takes longer if the journal is behind because everything on the
// host starts at the same time.
const logWithin = 10 * time.Second

// gpuLog searches an engine's log for the lines that report what it runs on.
type gpuLog struct {
	kind       string // of the engine
	fallbacks  []classify.Fallback
	invocation string
	journalctl string // the program
	stream     int    // the engine's own connection to the journal; -1: unknown
	within     time.Duration
	log        *log.Logger
}

// settleTime is the time without a new line after which the log counts as read to the end. The
// journal notifies its readers of new entries with a delay of up to a quarter of a second
// (POST_CHANGE_TIMER_INTERVAL_USEC in systemd's journald-file.c), and more on a busy host: 350 ms
// were too short there, once in a few dozen starts.
const settleTime = time.Second

// logged is what an engine's log reports of what it runs on.
type logged struct {
	onCPU  string            // a clause: why it runs without its GPU, with the line; "": no line reports that
	models []engines.Offload // of each model that was loaded, the pool's first
	line   string            // that of the pool's model
}

// none returns why no layer of any model is on a GPU; "" if one is, or the log does not report it.
func (l logged) none() string {
	if len(l.models) == 0 || slices.ContainsFunc(l.models, func(o engines.Offload) bool { return o.On > 0 }) {
		return ""
	}
	return fmt.Sprintf("the engine put no layer of the model on its GPU; its log says %q", cut(l.line, 200))
}

// layers formats the numbers of all models.
func (l logged) layers() string {
	texts := make([]string, len(l.models))
	for i, o := range l.models {
		texts[i] = fmt.Sprintf("%d/%d", o.On, o.Of)
	}
	return strings.Join(texts, ", ") + " layers on the GPU"
}

// search logs a line, and then reads the engine's log up to it. If the journal cannot be read, it
// logs that and returns what it found.
//
// What the engine wrote a moment ago may not be in the journal yet. So search reads until it
// finds its own line. It writes that line to the engine's stream, since the journal keeps the order
// within a stream. It keeps no order between streams: a line from the gate's own stream can come
// before thousands of the engine's (seen on 252, 257 and 262). If only the gate's own stream is
// available, search reads until no line comes for settleTime.
func (g *gpuLog) search(ctx context.Context, text string) (found logged) {
	exact := sendLine(g.stream, g.log.Prefix()+text)
	if !exact {
		g.log.Println(text)
	}
	if g.invocation == "" {
		g.warn("INVOCATION_ID is not set")
		return found
	}
	ctx, cancel := context.WithTimeout(ctx, g.within)
	defer cancel()
	out, cmd, err := g.follow()
	if err != nil {
		g.warn(err.Error())
		return found
	}
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
	err = g.read(out, g.log.Prefix()+text, exact, &found)
	stop()
	switch {
	case err == nil:
	case ctx.Err() != nil:
		g.warn("the journal did not answer within " + g.within.String())
	default:
		g.warn(err.Error())
	}
	_ = cmd.Process.Kill()
	out.Close()
	_ = cmd.Wait()
	return found
}

// follow starts journalctl at the first line of the run.
func (g *gpuLog) follow() (*os.File, *exec.Cmd, error) {
	out, end, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	defer end.Close()
	cmd := exec.Command(g.journalctl, "--quiet", "--follow", "--no-tail", "--all", "--output=json",
		"--output-fields=_PID,MESSAGE", inSlice, "_SYSTEMD_INVOCATION_ID="+g.invocation)
	cmd.Stdout = end
	if err := cmd.Start(); err != nil {
		out.Close()
		return nil, nil, err
	}
	return out, cmd, nil
}

// read reads up to the first line that reports a fallback, or to the gate's own line; if that one
// is not in order (exact is false), until no line comes for settleTime. It returns an error if the
// log ends before.
func (g *gpuLog) read(out *os.File, own string, exact bool, found *logged) error {
	scanner := bufio.NewScanner(out)
	scanner.Buffer(make([]byte, 0, 4096), 1<<20)
	marked := false
	for scanner.Scan() {
		pid, text := logLine(scanner.Bytes())
		switch {
		case pid != os.Getpid():
			if found.take(g, text) {
				return nil
			}
		case text == own && exact:
			return nil
		case text == own:
			marked = true
		}
		if marked {
			if err := out.SetReadDeadline(time.Now().Add(settleTime)); err != nil {
				return err
			}
		}
	}
	switch err := scanner.Err(); {
	case marked && errors.Is(err, os.ErrDeadlineExceeded):
		return nil
	case err != nil:
		return err
	}
	return errors.New("journalctl ended")
}

// mostModels bounds what one run is believed to have loaded.
const mostModels = 16

// take takes one line of the engine, and reports whether it settles that the engine runs on the
// CPU. The number of layers never does: a further model may follow.
func (l *logged) take(g *gpuLog, text string) (settled bool) {
	if o, ok := engines.Offloaded(g.kind, text); ok {
		if len(l.models) == 0 {
			l.line = text
		}
		if len(l.models) < mostModels {
			l.models = append(l.models, o)
		}
		return false
	}
	reason, found := classify.OnCPU(g.fallbacks, text)
	if found {
		l.onCPU = fmt.Sprintf("%s; its log says %q", reason, cut(text, 200))
	}
	return found
}

func (g *gpuLog) warn(why string) {
	g.log.Println("could not read the engine's log; unknown whether it uses its GPU:", why)
}

// logLine returns the process and the message of one JSON line. journalctl writes a message with
// unprintable characters, such as colours, as an array of bytes.
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
	_ = json.Unmarshal(fields.Message, &list) // anything else is not an engine's message
	return pid, string(list)
}

// cut shortens a text to at most so many bytes.
func cut(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return text[:most] + "…"
}
