package programs

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"
)

// disk is a made file system. Paths are absolute.
type disk struct{ fstest.MapFS }

// host has the parts of a system that every dynamic program of it needs.
func host() disk {
	d := disk{fstest.MapFS{}}
	d.link("/lib", "usr/lib")
	d.link("/lib64", "usr/lib64")
	d.link("/bin", "usr/bin")
	d.elf("/usr/lib64/ld-linux-x86-64.so.2", library{})
	d.elf("/usr/lib/x86_64-linux-gnu/libc.so.6", library{soname: "libc.so.6"})
	d.elf("/usr/bin/dash", library{interp: loader, needed: []string{"libc.so.6"}})
	d.link("/usr/bin/sh", "dash")
	d.elf("/usr/bin/env", library{interp: loader})
	d.elf("/usr/bin/python3", library{interp: loader})
	d.file("/etc/ld.so.cache", string(cache(map[string]string{"libc.so.6": "/lib/x86_64-linux-gnu/libc.so.6"})), 0o644)
	return d
}

const loader = "/lib64/ld-linux-x86-64.so.2"

func (d disk) file(p, content string, mode fs.FileMode) {
	d.MapFS[name(p)] = &fstest.MapFile{Data: []byte(content), Mode: mode}
}

func (d disk) link(p, target string) {
	d.MapFS[name(p)] = &fstest.MapFile{Data: []byte(target), Mode: fs.ModeSymlink | 0o777}
}

func (d disk) script(p string, lines ...string) { d.file(p, strings.Join(lines, "\n")+"\n", 0o755) }

func (d disk) elf(p string, l library) { d.file(p, string(l.bytes()), 0o755) }

// library is what a made ELF file has.
type library struct {
	machine elf.Machine // zero: EM_X86_64
	interp  string
	soname  string
	needed  []string
	rpath   string
	runpath string
}

// bytes writes an ELF file with the three program headers that are read, and no section.
func (l library) bytes() []byte {
	const base, headers = 0x400000, 64 + 3*56
	names := []byte{0}
	var tags []elf.Dyn64
	add := func(tag elf.DynTag, s string) {
		if s != "" {
			tags = append(tags, elf.Dyn64{Tag: int64(tag), Val: uint64(len(names))})
			names = append(append(names, s...), 0)
		}
	}
	add(elf.DT_SONAME, l.soname)
	for _, n := range l.needed {
		add(elf.DT_NEEDED, n)
	}
	add(elf.DT_RPATH, l.rpath)
	add(elf.DT_RUNPATH, l.runpath)
	interp := append([]byte(l.interp), 0)
	table := uint64(headers + len(interp))
	dynamic := table + uint64(len(names))
	tags = append(tags, elf.Dyn64{Tag: int64(elf.DT_STRTAB), Val: base + table},
		elf.Dyn64{Tag: int64(elf.DT_STRSZ), Val: uint64(len(names))}, elf.Dyn64{})
	size := dynamic + uint64(len(tags)*16)
	h := elf.Header64{Type: uint16(elf.ET_DYN), Machine: uint16(l.machine), Version: 1, Phoff: 64, Ehsize: 64,
		Phentsize: 56, Phnum: 3}
	if l.machine == 0 {
		h.Machine = uint16(elf.EM_X86_64)
	}
	copy(h.Ident[:], elf.ELFMAG)
	h.Ident[elf.EI_CLASS], h.Ident[elf.EI_DATA] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB)
	h.Ident[elf.EI_VERSION] = 1
	progs := []elf.Prog64{
		{Type: uint32(elf.PT_LOAD), Vaddr: base, Filesz: size},
		{Type: uint32(elf.PT_DYNAMIC), Off: dynamic, Vaddr: base + dynamic, Filesz: uint64(len(tags) * 16)},
		{Type: uint32(elf.PT_INTERP), Off: headers, Filesz: uint64(len(interp))},
	}
	if l.interp == "" {
		progs[2].Type = uint32(elf.PT_NULL)
	}
	var b bytes.Buffer
	for _, part := range []any{h, progs, interp, names, tags} {
		_ = binary.Write(&b, binary.LittleEndian, part) // a buffer takes everything
	}
	return b.Bytes()
}

// cache writes ld.so.cache.
func cache(paths map[string]string) []byte {
	var entries, texts bytes.Buffer
	start := uint32(cacheHead + cacheEntry*len(paths))
	put := func(s string) uint32 {
		at := start + uint32(texts.Len())
		texts.WriteString(s + "\x00")
		return at
	}
	for library, p := range paths {
		_ = binary.Write(&entries, binary.LittleEndian, []uint32{0x0303, put(library), put(p), 0, 0, 0})
	}
	head := append([]byte(cacheNew), make([]byte, cacheHead-len(cacheNew))...)
	binary.LittleEndian.PutUint32(head[20:], uint32(len(paths)))
	return bytes.Join([][]byte{head, entries.Bytes(), texts.Bytes()}, nil)
}

// TestMadeFilesAreReal: what the tests write is what debug/elf reads.
func TestMadeFilesAreReal(t *testing.T) {
	raw := library{interp: loader, needed: []string{"liba.so", "libb.so"}, runpath: "/x"}.bytes()
	f, err := elf.NewFile(bytes.NewReader(raw))
	if err != nil || len(f.Progs) != 3 || f.Machine != elf.EM_X86_64 {
		t.Fatalf("debug/elf: %+v, %v", f, err)
	}
	o, err := parseELF(bytes.NewReader(raw), int64(len(raw)))
	if err != nil || o.interp != loader || strings.Join(o.needed, " ") != "liba.so libb.so" || o.runpath[0] != "/x" {
		t.Errorf("parseELF = %+v, %v", o, err)
	}
}
