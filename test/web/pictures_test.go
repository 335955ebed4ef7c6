//go:build web

package web

import (
	"bytes"
	"cmp"
	"flag"
	"image"
	"image/color"
	"image/png"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

var (
	pictures = flag.String("pictures", "", "write the pictures of docs/web.md into this directory")
	pictured = flag.String("at", "", "of the page at this address (http://127.0.0.1:9200) instead of a sample host")
	minutes  = flag.Int("minutes", 0, "let the sample host be in use for so long before, for its charts")
	detailed = flag.String("pool", "llama3-8b", "the pool that is shown in detail")
)

// most is how large a picture of the documentation may be, in bytes.
const most = 150_000

// TestPictures writes the pictures of the documentation.
func TestPictures(t *testing.T) {
	if *pictures == "" {
		t.Skip("make test-web PICTURES=DIR writes them")
	}
	at := *pictured
	if at == "" {
		s := serve(t, "")
		s.sample()
		s.live(*minutes)
		at = s.url("localhost")
	}
	b := start(t)
	for _, c := range []struct {
		name, scheme, hash string
		width, height      int
	}{
		{"web-light", "light", "", 1280, 900},
		{"web-dark", "dark", "#pool=" + *detailed, 1280, 1000},
		{"web-phone", "light", "", 360, 900},
	} {
		t.Run(c.name, func(t *testing.T) {
			tb := b.open(t, c.width, c.scheme)
			tb.visit(at + "/" + c.hash)
			tb.until(rows + ` > 0 && document.querySelectorAll("#gpu-list .card").length > 0`)
			tb.until(`document.querySelectorAll("#event-list li").length > 0`)
			if c.hash != "" {
				tb.until(`document.querySelectorAll("#detail .changes li").length > 0`)
				tb.eval(`[...document.querySelectorAll("#detail button")].find(b => b.textContent === "Show the unit").click()`)
				tb.until(`document.querySelector("#detail pre")`)
			}
			tb.eval(`new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 500))))`)
			body := smaller(t, tb.picture(c.width, c.height))
			if len(body) > most {
				t.Errorf("%d bytes, more than %d", len(body), most)
			}
			if err := os.WriteFile(filepath.Join(*pictures, c.name+".png"), body, 0o644); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// smaller returns a picture with its 256 most frequent colours, which is enough for text and flat
// areas.
func smaller(t *testing.T, body []byte) []byte {
	t.Helper()
	from, err := png.Decode(bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	count := make(map[color.RGBA]int)
	area := from.Bounds()
	at := func(x, y int) color.RGBA { return color.RGBAModel.Convert(from.At(x, y)).(color.RGBA) }
	for y := area.Min.Y; y < area.Max.Y; y++ {
		for x := area.Min.X; x < area.Max.X; x++ {
			count[at(x, y)]++
		}
	}
	colours := slices.SortedFunc(maps.Keys(count), func(a, b color.RGBA) int {
		return cmp.Or(cmp.Compare(count[b], count[a]), cmp.Compare(a.R, b.R), cmp.Compare(a.G, b.G),
			cmp.Compare(a.B, b.B))
	})
	var palette color.Palette
	for _, c := range colours[:min(256, len(colours))] {
		palette = append(palette, c)
	}
	to, nearest := image.NewPaletted(area, palette), make(map[color.RGBA]uint8)
	for y := area.Min.Y; y < area.Max.Y; y++ {
		for x := area.Min.X; x < area.Max.X; x++ {
			c := at(x, y)
			i, known := nearest[c]
			if !known {
				i = uint8(palette.Index(c))
				nearest[c] = i
			}
			to.SetColorIndex(x, y, i)
		}
	}
	var out bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&out, to); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}
