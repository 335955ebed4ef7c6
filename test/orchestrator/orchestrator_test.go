package orchestrator

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

const good = `{"url":"http://127.0.0.1:21000","pool_id":"a","replica_id":"r0","engine":"llamacpp","engine_version":null,"model_id":"file:/m",
"model":{"id":"file:/m","path":"/m"},"device_mask":"GPU-1,GPU-2","devices":["GPU-1","GPU-2"],"flags":["-m","/m"],
"provisioning_mode":"binary","pid":7,"unit":"pool-engine@a.r0.service","slots":4,"slots_total":4,"slots_free":1,"later":{}}`

// TestReadHandoff: the reader is as strict as those that exist.
func TestReadHandoff(t *testing.T) {
	if h, err := ReadHandoff("/run/x/a.r0.json", []byte(good)); err != nil || h.SlotsFree != 1 ||
		*h.DeviceMask != "GPU-1,GPU-2" {
		t.Fatalf("%+v, %v", h, err)
	}
	for name, c := range map[string]struct{ from, to string }{
		"mask_is_a_list":       {`"GPU-1,GPU-2"`, `["GPU-1","GPU-2"]`},
		"mask_is_another":      {`"GPU-1,GPU-2"`, `"GPU-1"`},
		"no_slots":             {`"slots":4,`, ``},
		"too_many_free":        {`"slots_free":1`, `"slots_free":5`},
		"version_is_a_word":    {`"engine_version":null`, `"engine_version":"unknown"`},
		"url_is_null":          {`"http://127.0.0.1:21000"`, `null`},
		"of_another_replica":   {`"r0"`, `"r0b"`},
		"of_another_model":     {`"id":"file:/m"`, `"id":"file:/n"`},
		"flags_are_null":       {`["-m","/m"]`, `null`},
		"unit_without_process": {`"pid":7`, `"pid":null`},
	} {
		t.Run(name, func(t *testing.T) {
			body := strings.Replace(good, c.from, c.to, 1)
			if body == good {
				t.Fatal("nothing was replaced")
			}
			if h, err := ReadHandoff("a.r0.json", []byte(body)); err == nil {
				t.Errorf("it was read: %+v", h)
			}
		})
	}
}

// TestAcquireWaits: a client that finds no slot waits as long as requested, and not longer.
func TestAcquireWaits(t *testing.T) {
	var asked []time.Time
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, time.Now())
		if len(asked) == 1 {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusTooManyRequests)
			_, _ = io.WriteString(w, `{"code":"SLOTS_EXHAUSTED","message":"all held","error":"all held","retriable":true,"policy_label":"reject","engine":"llamacpp"}`)
			return
		}
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, `{"lease_id":"l-1","pool_id":"a","replica_id":"r0","endpoint":"http://127.0.0.1:21000","expires_at_ms":1}`)
	}))
	defer srv.Close()
	c := &Client{HTTP: srv.Client(), Base: srv.URL, Name: "test"}
	if l, err := c.Acquire(t.Context(), "a", "", time.Second); err != nil || l.ID != "l-1" {
		t.Fatalf("%+v, %v", l, err)
	}
	if wait := asked[1].Sub(asked[0]); len(asked) != 2 || wait < time.Second || wait > 3*time.Second {
		t.Errorf("asked %d times, again after %s", len(asked), wait)
	}
}

func TestRefused(t *testing.T) {
	answers := map[string]string{"/pools/gone/status": `{"code":"POOL_NOT_FOUND","message":"pool gone not found","error":"pool gone not found","retriable":false}`,
		"/pools/odd/status": `pool odd not found`}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, answers[r.URL.Path])
	}))
	defer srv.Close()
	c := &Client{HTTP: srv.Client(), Base: srv.URL}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var refused *Refused
	if _, err := c.Status(ctx, "", "gone"); !errors.As(err, &refused) || refused.HTTPStatus != 404 ||
		refused.Text != refused.Message {
		t.Errorf("%v", err)
	}
	if _, err := c.Status(ctx, "", "odd"); err == nil || errors.As(err, &refused) {
		t.Errorf("an answer that is no JSON: %v", err)
	}
}
