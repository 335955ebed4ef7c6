package supervise

import (
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// TestPlantedSecrets: what a pool has for secrets, and what its engine writes of them before it
// ends, is in no line of the log at any level, no event and no status.
func TestPlantedSecrets(t *testing.T) {
	const plant = "PLANTED0a1b2c3d4e5f"
	output := []string{
		"loading https://user:" + plant + "1@models.example/m.gguf",
		"GET /m.gguf?token=" + plant + "2 returned 403",
		"> Authorization: Bearer " + plant + "3",
		"environment: HF_TOKEN=" + plant + "4",
		`config: {"api_key": "` + plant + `5", "port": 21000}`,
		"error: the password is " + plant + "6",
		"llama-server --api-key " + plant + "7 --port 21000",
	}
	for i, line := range output {
		scenario(t, "line_"+string(rune('1'+i)), func(t *testing.T, w *world) {
			l := &runLog{lines: map[string][]string{firstRun: {line, "error: could not load"}}}
			m := w.manage(t, pools(llama("a", func(p *pool.Pool) {
				p.Env = map[string]string{"HF_TOKEN": plant + "8"}
				p.Args = []string{"--api-key", plant + "9"}
			})), func(o *Options) {
				o.Journal, o.Log = l, slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
			})
			w.passGate(unitOf("a"))
			m.wantState("a", registry.StateReady, true)
			w.change(unitOf("a"), ends("exit-code", cldExited, 1))
			time.Sleep(time.Second)
			m.wantState("a", registry.StateBackoff, false)
			events, _ := m.reg.Events(0)
			shown, err := json.Marshal(struct{ Events, Pool any }{events, m.pool("a")})
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(shown), "could not load") {
				t.Errorf("the engine's log is not shown: %s", shown)
			}
			logged := strings.Join(l.logged(""), "")
			for name, text := range map[string]string{"log": logged, "events and status": string(shown)} {
				if at := strings.Index(text, plant); at >= 0 {
					t.Errorf("%s: …%s…", name, text[max(0, at-80):at+len(plant)])
				}
			}
		})
	}
}
