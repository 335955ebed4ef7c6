package wire

import (
	"bytes"
	"errors"
	"io"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/pool-managerd/pool-managerd/test/mutate"
)

func TestFramesRoundTrip(t *testing.T) {
	var channel bytes.Buffer
	w := NewWriter(&channel)
	long := bytes.Repeat([]byte("x"), 2*MaxPayload+5)
	if err := errors.Join(w.Write(Hello, 0, nil), w.Write(Output, 7, long),
		w.WriteJSON(Ended, 7, Exit{Code: 3})); err != nil {
		t.Fatal(err)
	}
	var got []byte
	var kinds []Type
	for {
		f, err := Read(&channel)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		kinds = append(kinds, f.Type)
		if f.Type == Output {
			got = append(got, f.Payload...)
		}
		if want := map[bool]uint32{true: 0, false: 7}[f.Type == Hello]; f.Stream != want {
			t.Errorf("frame %d is on stream %d, want %d", f.Type, f.Stream, want)
		}
	}
	if !bytes.Equal(got, long) {
		t.Errorf("%d of %d bytes", len(got), len(long))
	}
	if want := []Type{Hello, Output, Output, Output, Ended}; !bytes.Equal(asBytes(kinds), asBytes(want)) {
		t.Errorf("frames %v, want %v", kinds, want)
	}
}

func asBytes(kinds []Type) (b []byte) {
	for _, k := range kinds {
		b = append(b, byte(k))
	}
	return b
}

func TestReadRefuses(t *testing.T) {
	for name, in := range map[string][]byte{
		"unknown_type":     {99, 0, 0, 0, 1, 0, 0, 0, 0},
		"type_zero":        {0, 0, 0, 0, 1, 0, 0, 0, 0},
		"giant_payload":    {byte(Output), 0, 0, 0, 1, 0xff, 0, 0, 0},
		"cut_in_header":    {byte(Output), 0, 0},
		"cut_in_payload":   {byte(Output), 0, 0, 0, 1, 0, 0, 0, 9, 'x'},
		"cut_at_a_payload": {byte(Output), 0, 0, 0, 1, 0, 0, 0, 9},
	} {
		t.Run(name, func(t *testing.T) {
			if f, err := Read(bytes.NewReader(in)); err == nil || errors.Is(err, io.EOF) {
				t.Errorf("%+v, %v", f, err)
			}
		})
	}
}

func FuzzRead(f *testing.F) {
	var channel bytes.Buffer
	if err := NewWriter(&channel).Write(Output, 1, []byte("hello")); err != nil {
		f.Fatal(err)
	}
	f.Add(channel.Bytes())
	f.Fuzz(mutate.Many(func(t *testing.T, in []byte) {
		frame, err := Read(bytes.NewReader(in))
		if err != nil {
			return
		}
		var again bytes.Buffer
		if err := NewWriter(&again).Write(frame.Type, frame.Stream, frame.Payload); err != nil {
			t.Fatal(err)
		}
		if !bytes.HasPrefix(in, again.Bytes()) {
			t.Errorf("% x was read from % x", again.Bytes(), in)
		}
	}))
}

func TestMessageThatFitsNoFrame(t *testing.T) {
	if err := NewWriter(io.Discard).WriteJSON(Open, 1,
		Request{Args: []string{string(make([]byte, MaxPayload))}}); err == nil {
		t.Error("no error")
	}
}

func TestCredit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewCredit()
		for range Window / MaxPayload {
			if !c.Take(MaxPayload) {
				t.Fatal("the window is smaller than announced")
			}
		}
		var taken, ended bool
		var waiting sync.WaitGroup
		waiting.Go(func() {
			taken = c.Take(10)
			ended = !c.Take(MaxPayload)
		})
		synctest.Wait()
		if taken {
			t.Error("more was sent than the window allows")
		}
		c.Give([]byte{1}) // not a number: ignored
		c.Give(AcceptedPayload(10))
		synctest.Wait()
		if !taken || ended {
			t.Errorf("after credit for ten bytes: taken %v, ended %v", taken, ended)
		}
		c.End()
		waiting.Wait()
		if !ended {
			t.Error("the end of the stream is taken for credit")
		}
	})
}
