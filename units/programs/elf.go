package programs

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"io"
	"strings"
)

// object is what the kernel and the dynamic loader read of an ELF file.
type object struct {
	machine elf.Machine
	order   binary.ByteOrder
	interp  string // the dynamic loader; empty: static, or a library
	soname  string
	needed  []string
	rpath   []string // unset where there is a RUNPATH, as the loader has it
	runpath []string
}

// compatible reports whether the loader would map o into a process of main.
func (o object) compatible(main object) bool {
	return o.machine == main.machine && o.order == main.order
}

// parseELF reads a 64-bit ELF file by its program headers, as the kernel does: debug/elf reads the
// sections, which strip(1) may remove and which nothing checks.
func parseELF(r io.ReaderAt, size int64) (object, error) {
	var ident [elf.EI_NIDENT]byte
	if err := readFull(r, ident[:], 0, size); err != nil {
		return object{}, err
	}
	if string(ident[:len(elf.ELFMAG)]) != elf.ELFMAG || elf.Class(ident[elf.EI_CLASS]) != elf.ELFCLASS64 {
		return object{}, errNotELF
	}
	var order binary.ByteOrder = binary.LittleEndian
	switch elf.Data(ident[elf.EI_DATA]) {
	case elf.ELFDATA2LSB:
	case elf.ELFDATA2MSB:
		order = binary.BigEndian
	default:
		return object{}, errNotELF
	}
	p := parser{r: r, size: size, order: order}
	var h elf.Header64
	if err := p.decode(0, &h); err != nil {
		return object{}, err
	}
	o := object{machine: elf.Machine(h.Machine), order: order}
	if h.Phnum > maxSegments || h.Phnum > 0 && h.Phentsize != 56 {
		return object{}, fmt.Errorf("%d program headers of %d bytes: %w", h.Phnum, h.Phentsize, errNotELF)
	}
	p.segments = make([]elf.Prog64, h.Phnum)
	if err := p.decode(h.Phoff, &p.segments); err != nil {
		return object{}, err
	}
	for _, s := range p.segments {
		var err error
		switch elf.ProgType(s.Type) {
		case elf.PT_INTERP:
			o.interp, err = p.text(s.Off, min(s.Filesz, maxElement))
		case elf.PT_DYNAMIC:
			err = p.dynamic(s, &o)
		}
		if err != nil {
			return object{}, err
		}
	}
	return o, nil
}

// parser reads parts of one file.
type parser struct {
	r        io.ReaderAt
	size     int64
	order    binary.ByteOrder
	segments []elf.Prog64
}

// dynamic reads the dynamic section.
func (p parser) dynamic(s elf.Prog64, o *object) error {
	const entry = 16
	tags := make([]elf.Dyn64, min(s.Filesz, maxDynamic)/entry)
	if err := p.decode(s.Off, &tags); err != nil {
		return err
	}
	var table, length uint64
	for _, t := range tags {
		switch elf.DynTag(t.Tag) {
		case elf.DT_STRTAB:
			table = t.Val
		case elf.DT_STRSZ:
			length = t.Val
		}
	}
	table, ok := p.offset(table)
	if !ok {
		return nil // nothing is named
	}
	var rpath, runpath string
	for _, t := range tags {
		var into *string
		switch elf.DynTag(t.Tag) {
		case elf.DT_NULL:
			o.paths(rpath, runpath)
			return nil
		case elf.DT_NEEDED:
			if len(o.needed) == maxObjects {
				return errTooMany
			}
			o.needed = append(o.needed, "")
			into = &o.needed[len(o.needed)-1]
		case elf.DT_SONAME:
			into = &o.soname
		case elf.DT_RPATH:
			into = &rpath
		case elf.DT_RUNPATH:
			into = &runpath
		default:
			continue
		}
		if t.Val >= length {
			return fmt.Errorf("a name at %d of %d bytes: %w", t.Val, length, errNotELF)
		}
		text, err := p.text(table+t.Val, min(length-t.Val, maxValue))
		if err != nil {
			return err
		}
		*into = text
	}
	o.paths(rpath, runpath)
	return nil
}

// paths sets the search paths. The loader ignores RPATH where there is a RUNPATH.
func (o *object) paths(rpath, runpath string) {
	if o.runpath = split(runpath, ":"); runpath == "" {
		o.rpath = split(rpath, ":")
	}
}

// offset returns where in the file an address of the loaded program is.
func (p parser) offset(address uint64) (uint64, bool) {
	for _, s := range p.segments {
		if elf.ProgType(s.Type) == elf.PT_LOAD && address >= s.Vaddr && address-s.Vaddr < s.Filesz {
			return s.Off + (address - s.Vaddr), true
		}
	}
	return 0, false
}

// text reads a string that ends with a NUL byte.
func (p parser) text(offset, most uint64) (string, error) {
	if offset >= uint64(p.size) {
		return "", io.ErrUnexpectedEOF
	}
	raw := make([]byte, min(most, uint64(p.size)-offset))
	if err := readFull(p.r, raw, offset, p.size); err != nil {
		return "", err
	}
	end := bytes.IndexByte(raw, 0)
	if end < 0 {
		return "", fmt.Errorf("a string without an end: %w", errNotELF)
	}
	return strings.ToValidUTF8(string(raw[:end]), "\uFFFD"), nil
}

func (p parser) decode(offset uint64, into any) error {
	raw := make([]byte, binary.Size(into))
	if err := readFull(p.r, raw, offset, p.size); err != nil {
		return err
	}
	_, err := binary.Decode(raw, p.order, into)
	return err
}

func readFull(r io.ReaderAt, into []byte, offset uint64, size int64) error {
	if offset > uint64(size) || uint64(len(into)) > uint64(size)-offset {
		return io.ErrUnexpectedEOF
	}
	n, err := r.ReadAt(into, int64(offset))
	if n == len(into) {
		return nil
	}
	return err
}
