// SPDX-License-Identifier: MIT OR Apache-2.0

package peer

import (
	"encoding/binary"
	"errors"
	"runtime"

	"golang.org/x/sys/unix"
)

// MaxFrame is the most bytes of one frame.
const MaxFrame = 64 << 20

// Header is the bytes of a frame's length.
const Header = 4

const (
	heavyEvery      = 10
	burnNanoseconds = 100_000
)

// ErrTooLong is for a frame that the connection is to be closed for.
var ErrTooLong = errors.New("a frame of more than 64 MiB")

// Calls is what a connection of kind rpc or heavy has been asked for.
type Calls struct {
	heavy bool
	count int
}

// CallsOf is none so far.
func CallsOf(kind string) *Calls {
	return &Calls{heavy: kind == Heavy}
}

// Answer appends the answers to all whole frames at the front of input to answers; taken is how many
// bytes of input they were.
func (calls *Calls) Answer(input, answers []byte) (taken int, all []byte, err error) {
	for {
		length, known, err := FrameLength(input[taken:])
		if err != nil || !known || len(input)-taken < length {
			return taken, answers, err
		}
		calls.Next()
		answers = append(answers, input[taken:taken+length]...)
		taken += length
	}
}

// Next does what the next request asks for, besides its answer.
func (calls *Calls) Next() {
	calls.count++
	if calls.heavy && calls.count%heavyEvery == 0 {
		burn()
	}
}

// FrameLength is the bytes of the frame that input begins with, its header among them, if the header is
// there.
func FrameLength(input []byte) (length int, known bool, err error) {
	if len(input) < Header {
		return 0, false, nil
	}
	body := binary.BigEndian.Uint32(input)
	if body > MaxFrame {
		return 0, false, ErrTooLong
	}
	return Header + int(body), true, nil
}

// burn spends 100 us of a thread's processor time: its own clock is read, so that a thread which waits
// for a processor meanwhile does as much as one that does not.
func burn() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for end := processorTime() + burnNanoseconds; processorTime() < end; {
	}
}

func processorTime() int64 {
	var time unix.Timespec
	// It knows no failure with a clock that every Linux has.
	_ = unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &time)
	return time.Nano()
}
