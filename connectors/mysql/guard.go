package mysql

import "errors"

// A guard looks at the begin of every packet of the server. The driver makes
// room for as many columns as a packet claims, appends packets without end, and
// answers when the server asks for a file.
type guard struct {
	head    [header]byte // of the packet at hand
	headLen int
	left    int // bytes of the packet that are still to come

	first    [answerLen]byte // begin of the first packet after a command
	firstLen int
	firstOf  int  // bytes of the packet that first shows
	waiting  bool // for the first packet after a command

	command byte
	small   int  // so many packets now must be small: descriptions of columns
	fresh   bool // the next byte is the first of a packet behind the descriptions
	rows    int  // of the result at hand, received so far
}

const (
	packetOK    = 0x00
	packetFile  = 0xfb
	packetEnd   = 0xfe
	packetError = 0xff

	commandQuery   = 0x03
	commandPrepare = 0x16
	commandExecute = 0x17

	maxColumns     = 4096    // of a table, in both systems
	maxDescription = 8 << 10 // of one column
	maxHandshake   = 64 << 10
	answerLen      = 1 + 9 + 9 + 2
	moreResults    = 8 // status
)

// maxPacket bounds a row. The next size means that a packet goes on in another.
const maxPacket = 1<<24 - 2

var (
	errTooLong = errors.New("the server sent a row larger than 16 MiB")
	errFile    = errors.New("the server asks for a file of this machine")
	errColumns = errors.New("the server claims more columns than a table can have")
	errResults = errors.New("the statement has several results")
)

// sent notes a command.
func (g *guard) sent(packet []byte) {
	g.waiting, g.firstLen, g.small, g.fresh, g.rows = true, 0, 0, false, 0
	if len(packet) > header {
		g.command = packet[header]
	}
	if g.command == commandPrepare {
		g.small = 2 * (1<<16 - 1)
	}
}

// received looks at bytes of the server and lowers the numbers of packets by
// shift.
func (g *guard) received(p []byte, shift byte) error {
	for len(p) > 0 {
		if g.left > 0 {
			n := min(g.left, len(p))
			if g.fresh {
				g.fresh = false
				if p[0] != packetEnd && p[0] != packetError {
					g.rows++
				}
			}
			if g.waiting {
				if err := g.look(p[:n]); err != nil {
					return err
				}
			}
			g.left -= n
			p = p[n:]
			continue
		}
		if g.headLen == header-1 {
			p[0] -= shift
		}
		g.head[g.headLen] = p[0]
		g.headLen++
		p = p[1:]
		if g.headLen < header {
			continue
		}
		g.headLen = 0
		if err := g.begin(int(g.head[0]) | int(g.head[1])<<8 | int(g.head[2])<<16); err != nil {
			return err
		}
	}
	return nil
}

// begin looks at the length of a packet.
func (g *guard) begin(n int) error {
	g.left = n
	switch {
	case n > maxPacket:
		return errTooLong
	case g.command == 0 && n > maxHandshake:
		return badWire("handshake")
	case g.waiting:
		g.firstOf = min(n, answerLen)
	case g.small > 0:
		g.small--
		if n > maxDescription {
			return badWire("column")
		}
	default:
		g.fresh = true
	}
	return nil
}

// look gathers the begin of the first packet after a command and judges it.
func (g *guard) look(p []byte) error {
	g.firstLen += copy(g.first[g.firstLen:g.firstOf], p)
	if g.firstLen < g.firstOf {
		return nil
	}
	g.waiting = false
	if g.command != commandQuery && g.command != commandExecute {
		return nil
	}
	first := g.first[:g.firstLen]
	switch first[0] {
	case packetError:
		return nil
	case packetFile:
		return errFile
	case packetOK:
		return judgeOK(first)
	}
	columns, _, ok := lengthEncoded(first)
	if !ok || columns > maxColumns {
		return errColumns
	}
	g.small = int(columns)
	return nil
}

// judgeOK refuses a second result after an empty one: nobody would look at its
// number of columns.
func judgeOK(packet []byte) error {
	rest := packet[1:]
	for range 2 { // rows changed, last id
		_, n, ok := lengthEncoded(rest)
		if !ok {
			return badWire("answer")
		}
		rest = rest[n:]
	}
	if len(rest) < 2 {
		return badWire("answer")
	}
	if rest[0]&moreResults != 0 {
		return errResults
	}
	return nil
}

// lengthEncoded reads a number whose first byte says how long it is.
func lengthEncoded(b []byte) (value uint64, n int, ok bool) {
	if len(b) == 0 {
		return 0, 0, false
	}
	size := 0
	switch b[0] {
	case 0xfb, 0xff:
		return 0, 0, false
	case 0xfc:
		size = 2
	case 0xfd:
		size = 3
	case 0xfe:
		size = 8
	default:
		return uint64(b[0]), 1, true
	}
	if len(b) < 1+size {
		return 0, 0, false
	}
	for i := size; i > 0; i-- {
		value = value<<8 | uint64(b[i])
	}
	return value, 1 + size, true
}
