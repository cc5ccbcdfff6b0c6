@ GRU and Dense layers on the Quad layout for ARMv6-M (Cortex-M0, M0+); also runs on ARMv7-M.
@
@ A block of a GRU layer has eight units: in each part reset and update of four units, those of the
@ other four, the candidate of all. So the loop over columns always has eight rows.
@
@ A word holds one column of four rows, A in the lowest byte; A, B, C biased by 128, D signed.
@ The word shifted right by 24, 16, 8 and 0 is D, 2^8 D + C', 2^16 D + 2^8 C' + B' and
@ 2^24 D + 2^16 C' + 2^8 B' + A' (' = biased). Each is multiplied by x and summed modulo 2^32:
@
@   S3 = D   S2 = 2^8 S3 + C'   S1 = 2^8 S2 + B'   S0 = 2^8 S1 + A'     (sums over the columns)
@
@ so C' = S2 - 2^8 S3 and so on, exactly; C = C' - 128 sum(x). The sums start at constants such
@ that this correction is already in them: S2 at i2 = -128 sum(x), S1 at i1 = i2 + 2^8 i2,
@ S0 at i0 = i2 + 2^8 i1.
@
@ No branch and no address but those of the tanh table depends on data.

	.syntax unified
	.thumb

@ ---- multiply-accumulate ----------------------------------------------------------------

	@ Four rows of one column: the word \w (destroyed) times \x, into the sums \a (low) \b \c \d.
	.macro	MAC4 w, x, t, a, b, c, d
	asrs	\t, \w, #24
	muls	\t, \x, \t
	add	\d, \t
	asrs	\t, \w, #16
	muls	\t, \x, \t
	add	\c, \t
	asrs	\t, \w, #8
	muls	\t, \x, \t
	add	\b, \t
	muls	\w, \x, \w
	add	\a, \w
	.endm

	@ Two columns of eight rows: 55 cycles, 100 bytes.
	.macro	PAIR8
	ldm	r1!, {r2}
	sxth	r5, r2
	ldm	r0!, {r3}
	MAC4	r3, r5, r4, r6, r8, r9, r10
	ldm	r0!, {r3}
	MAC4	r3, r5, r4, r7, r11, r12, lr
	asrs	r2, r2, #16
	ldm	r0!, {r3, r4}
	MAC4	r3, r2, r5, r6, r8, r9, r10
	MAC4	r4, r2, r5, r7, r11, r12, lr
	.endm

	@ Two columns of four rows: 29 cycles, 52 bytes.
	.macro	PAIR4
	ldm	r1!, {r2}
	sxth	r3, r2
	ldm	r0!, {r4, r5}
	MAC4	r4, r3, r6, r7, r8, r9, r10
	asrs	r2, r2, #16
	MAC4	r5, r2, r6, r7, r8, r9, r10
	.endm

	.section .text.gru_quad, "ax", %progbits

	@ Sums of four rows. r0 weights, r1 x, r2 -> i0 i1 i2, r3 end of x, r4 entry into the loop.
	@ Returns r0 after the weights; the sums in r7 r8 r9 r10. Clobbers r1-r6 and r12.
	.p2align 2
	.thumb_func
.Lmac4:
	ldm	r2!, {r5, r6, r7}
	mov	r12, r3
	mov	r8, r6
	mov	r9, r7
	mov	r7, r5
	movs	r6, #0
	mov	r10, r6
	bx	r4
	.thumb_func
.Lloop4:
	.rept	GRU_PAIRS
	PAIR4
	.endr
	cmp	r1, r12
	beq	1f
	b	.Lloop4
1:	bx	lr

	@ i0 i1 i2 of the x from r0 to r1 (a multiple of two words), stored at r2.
	@ Clobbers r0, r3-r6.
	.p2align 2
	.thumb_func
.Linit:
	movs	r5, #0
2:	ldm	r0!, {r3, r4}
	sxth	r6, r3
	adds	r5, r5, r6
	asrs	r3, r3, #16
	adds	r5, r5, r3
	sxth	r6, r4
	adds	r5, r5, r6
	asrs	r4, r4, #16
	adds	r5, r5, r4
	cmp	r0, r1
	bne	2b
	lsls	r5, r5, #7
	negs	r5, r5
	lsls	r4, r5, #8
	adds	r4, r4, r5
	lsls	r3, r4, #8
	adds	r3, r3, r5
	stm	r2!, {r3, r4, r5}
	bx	lr

	@ \out = address of the entry into the loop at label \loop with pairs of \bytes bytes, for
	@ \pairs >= 1 pairs: the first pass does what is left over from a multiple of \mask + 1.
	.macro	ENTRY out, t, pairs, loop, bytes, mask
	negs	\out, \pairs
	movs	\t, #\mask
	ands	\out, \t
	movs	\t, #\bytes
	muls	\out, \t, \out
	ldr	\t, =\loop
	adds	\out, \out, \t
	movs	\t, #1
	orrs	\out, \t
	.endm

@ ---- arithmetic ------------------------------------------------------------------------

	@ acc = floor(acc * m / 2^16), m < 2^15.
	.macro	REQ acc, t, m
	asrs	\t, \acc, #16
	uxth	\acc, \acc
	muls	\t, \m, \t
	muls	\acc, \m, \acc
	lsrs	\acc, \acc, #16
	adds	\acc, \acc, \t
	.endm

	@ u = u < 0 ? 0 : u > 65535 ? -1 : u; \max = 65535. Its low 16 bits are the clamped value.
	.macro	CLAMP u, t, max
	asrs	\t, \u, #31
	bics	\u, \t
	cmp	\max, \u
	sbcs	\t, \t
	orrs	\u, \t
	.endm

	@ u = tanh of v = u - 32768 for a clamped u; r1 = table, \mask = 2044 or nothing.
	.macro	TANH u, t, s, mask
	.ifb	\mask
	lsls	\t, \u, #16
	lsrs	\t, \t, #23
	lsls	\t, \t, #2
	.else
	lsrs	\t, \u, #5
	ands	\t, \mask
	.endif
	ldr	\t, [r1, \t]
	lsls	\u, \u, #25
	lsrs	\u, \u, #17
	sxth	\s, \t
	muls	\u, \s, \u
	adds	\u, \u, \t
	asrs	\u, \u, #16
	.endm

@ ---- GRU layer -------------------------------------------------------------------------

	.equ	F_W, 0		@ the first four arguments; the first one becomes the next weights of W
	.equ	F_X, 4
	.equ	F_HP, 8		@ h of the block's units
	.equ	F_OUT, 12
	.equ	F_U, 16		@ the next weights of U
	.equ	F_PARAM, 20	@ the block's parameters
	.equ	F_CUR, 24	@ end of the x that the loop runs over
	.equ	F_NEXT, 28	@ where the loop goes on when it is there
	.equ	F_XE, 32	@ entries into the loop
	.equ	F_HE, 36
	.equ	F_X16, 40	@ bytes of two words for each column of x
	.equ	F_H32, 44	@ and of four for each of h
	.equ	F_H, 48
	.equ	F_IX, 52	@ i0 i1 i2 of x
	.equ	F_IH, 64	@ of h
	.equ	F_IJ, 76	@ of x, and 2^-w_shift of those of h
	.equ	F_NX, 88	@ eight units each
	.equ	F_NH, 120
	.equ	FRAME, 156
	.equ	ARGS, FRAME + 36	@ the other arguments, behind the saved registers
	.equ	F_XEND, ARGS	@ comes as pairs of columns of x
	.equ	F_HEND, ARGS + 4	@ comes as pairs of columns of h
	.equ	F_BLOCKS, ARGS + 8	@ of four units
	.equ	F_SHIFT, ARGS + 12
	.equ	F_TABLE, ARGS + 16
	.equ	F_PARAMS, ARGS + 20	@ from the start of a block
	.equ	F_WSHIFT, ARGS + 24

	.equ	MU_R, 0
	.equ	MU_Z, 2
	.equ	MW_N, 4
	.equ	MU_N, 6
	.equ	B_R, 8
	.equ	B_Z, 10
	.equ	B_NX, 12
	.equ	B_NH, 14

	@ One row: acc to b + 32768 + req(acc). r1 parameters, r5 = 32768.
	.macro	ROW acc, t, m, mul, bias
	ldrh	\m, [r1, #\mul]
	REQ	\acc, \t, \m
	ldrh	\m, [r1, #\bias]
	eors	\m, r5
	adds	\acc, \acc, \m
	.endm

	@ Four rows, units D to A, with sums \a \b \c \d: r1 = parameters; results at \slot.
	@ Clobbers r2, r3, r4, r6, \d.
	.macro	ROWS a, b, c, d, mul, bias, slot, finish
	mov	r2, \d
	lsls	r4, r2, #8
	.ifc	\a, r6
	mov	\d, \a		@ out of the way
	.endif
	mov	r6, r2
	ROW	r6, r3, r2, \mul + 48, \bias + 48
	\finish	r6, r2
	str	r6, [sp, #\slot + 12]
	mov	r2, \c
	subs	r6, r2, r4
	lsls	r4, r2, #8
	ROW	r6, r3, r2, \mul + 32, \bias + 32
	\finish	r6, r2
	str	r6, [sp, #\slot + 8]
	mov	r2, \b
	subs	r6, r2, r4
	lsls	r4, r2, #8
	ROW	r6, r3, r2, \mul + 16, \bias + 16
	\finish	r6, r2
	str	r6, [sp, #\slot + 4]
	.ifc	\a, r6
	mov	r6, \d
	.endif
	subs	r6, \a, r4
	ROW	r6, r3, r2, \mul, \bias
	\finish	r6, r2
	str	r6, [sp, #\slot]
	.endm

	.macro	KEEP u, t
	.endm

	@ To sat16, r0 = 65535.
	.macro	SAT u, t
	CLAMP	\u, \t, r0
	uxth	\u, \u
	subs	\u, \u, r5
	.endm

	@ A high register shifted to the left by \by.
	.macro	SHIFT high, t, by
	mov	\t, \high
	lsls	\t, \by
	mov	\high, \t
	.endm

	@ The gates of unit \u of four: sums of r in r6, of z in r7; r0 = parameters of the four, r1 = table, \max = 65535,
	@ \mask = 2044 or nothing, r5 = 32768. Clobbers r2, r3, r6, r7.
	.macro	UNIT u, half, max, mask
	ldrh	r2, [r0, #MU_R + 16 * \u]
	REQ	r6, r3, r2
	ldrh	r2, [r0, #B_R + 16 * \u]
	eors	r2, r5
	adds	r6, r6, r2
	CLAMP	r6, r2, \max
	TANH	r6, r2, r3, \mask
	adds	r6, r6, r5		@ r
	ldr	r2, [sp, #F_NH + 16 * \half + 4 * \u]
	muls	r6, r2, r6
	ldr	r3, [sp, #F_SHIFT]
	asrs	r6, r3
	ldr	r2, [sp, #F_NX + 16 * \half + 4 * \u]
	adds	r6, r6, r2
	CLAMP	r6, r2, \max
	TANH	r6, r2, r3, \mask		@ n
	ldrh	r2, [r0, #MU_Z + 16 * \u]
	REQ	r7, r3, r2
	ldrh	r2, [r0, #B_Z + 16 * \u]
	eors	r2, r5
	adds	r7, r7, r2
	CLAMP	r7, r2, \max
	TANH	r7, r2, r3, \mask
	adds	r7, r7, r5		@ z
	ldr	r2, [sp, #F_HP]		@ n + z (h - n), rounded
	ldrh	r2, [r2, #8 * \half + 2 * \u]
	sxth	r2, r2
	subs	r2, r2, r6
	muls	r2, r7, r2
	lsls	r6, r6, #16
	adds	r2, r2, r6
	adds	r2, r2, r5
	asrs	r2, r2, #16
	ldr	r3, [sp, #F_OUT]
	strh	r2, [r3, #8 * \half + 2 * \u]
	.endm

	@ The loop over eight rows, with weights from r0: sums start at \init, \next comes after it.
	@ Sums of the first word in r6 r8 r9 r10, of the second in r7 r11 r12 lr. Clobbers r1-r5.
	.macro	START8 x, end, entry, init, next
	adr	r2, \next
	ldr	r1, [sp, #\end]
	str	r1, [sp, #F_CUR]
	str	r2, [sp, #F_NEXT]
	ldr	r1, [sp, #\x]
	add	r2, sp, #\init
	ldm	r2!, {r5, r6, r7}
	ldr	r4, [sp, #\entry]
	mov	r8, r6
	mov	r9, r7
	mov	r11, r6
	mov	r12, r7
	movs	r6, #0
	mov	r10, r6
	mov	lr, r6
	mov	r6, r5
	mov	r7, r5
	bx	r4
	.endm

	@ Reset and update of four units: the sums over x, on top of them, shifted, those over h, and the
	@ new states.
	.macro	FOUR half
	ldr	r0, [sp, #F_W]
	START8	F_X, F_XEND, F_XE, F_IJ, .Lshift\half
	.p2align 2
.Lshift\half:
	.if	\half == 0
	str	r0, [sp, #F_W]
	.endif
	ldr	r0, [sp, #F_U]
	ldr	r2, [sp, #F_WSHIFT]
	lsls	r6, r2
	lsls	r7, r2
	SHIFT	r8, r4, r2
	SHIFT	r9, r4, r2
	SHIFT	r10, r4, r2
	SHIFT	r11, r4, r2
	SHIFT	r12, r4, r2
	SHIFT	lr, r4, r2
	adr	r1, .Lgates\half
	ldr	r2, [sp, #F_HEND]
	str	r1, [sp, #F_NEXT]
	str	r2, [sp, #F_CUR]
	ldr	r1, [sp, #F_H]
	ldr	r4, [sp, #F_HE]
	bx	r4
	.p2align 2
.Lgates\half:
	.if	\half == 0
	str	r0, [sp, #F_U]
	.endif
	ldr	r0, [sp, #F_PARAM]
	.if	\half == 1
	adds	r0, #64
	.endif
	ldr	r1, [sp, #F_TABLE]
	movs	r5, #128
	lsls	r5, r5, #8
	adds	r4, r5, r5
	subs	r4, #1
	mov	r2, r8
	lsls	r2, r2, #8
	subs	r6, r6, r2
	mov	r2, r11
	lsls	r2, r2, #8
	subs	r7, r7, r2
	UNIT	0, \half, r4
	mov	r6, r8
	mov	r2, r9
	lsls	r2, r2, #8
	subs	r6, r6, r2
	mov	r7, r11
	mov	r2, r12
	lsls	r2, r2, #8
	subs	r7, r7, r2
	mov	r8, r4			@ two high registers are free from here on
	movs	r4, #255
	lsls	r4, r4, #3
	adds	r4, #4
	UNIT	1, \half, r8, r4
	mov	r6, r9
	mov	r2, r10
	lsls	r2, r2, #8
	subs	r6, r6, r2
	mov	r7, r12
	mov	r2, lr
	lsls	r2, r2, #8
	subs	r7, r7, r2
	UNIT	2, \half, r8, r4
	mov	r6, r10
	mov	r7, lr
	UNIT	3, \half, r8, r4
	.endm

	.global	gru_quad_gru
	.type	gru_quad_gru, %function
	.p2align 2
	.thumb_func
gru_quad_gru:
	push	{r4-r7, lr}
	mov	r4, r8
	mov	r5, r9
	mov	r6, r10
	mov	r7, r11
	push	{r4-r7}
	sub	sp, #FRAME
	mov	r4, sp
	stm	r4!, {r0-r3}
	str	r2, [sp, #F_H]
	@ Entries into the loop; the arguments hold the numbers of pairs.
	ldr	r0, [sp, #F_XEND]
	ldr	r1, [sp, #F_HEND]
	ENTRY	r2, r3, r0, .Lloop8, 100, GRU_PAIRS - 1
	str	r2, [sp, #F_XE]
	ENTRY	r2, r3, r1, .Lloop8, 100, GRU_PAIRS - 1
	str	r2, [sp, #F_HE]
	@ Ends of x and h; the sums over both run to whole double words, padded with zeros.
	ldr	r6, [sp, #F_X]
	lsls	r7, r0, #2
	adds	r2, r7, r6
	str	r2, [sp, #F_XEND]
	lsls	r7, r7, #2
	str	r7, [sp, #F_X16]
	adds	r0, #1
	lsrs	r0, r0, #1
	lsls	r0, r0, #3
	ldr	r6, [sp, #F_H]
	lsls	r7, r1, #5
	str	r7, [sp, #F_H32]
	lsls	r7, r1, #2
	adds	r7, r7, r6
	str	r7, [sp, #F_HEND]
	adds	r1, #1
	lsrs	r1, r1, #1
	lsls	r7, r1, #3
	ldr	r1, [sp, #F_X]
	adds	r1, r1, r0
	ldr	r0, [sp, #F_X]
	add	r2, sp, #F_IX
	bl	.Linit
	ldr	r0, [sp, #F_H]
	adds	r1, r0, r7
	bl	.Linit			@ r2 is at F_IH, then at F_IJ
	@ The gates' sums go on over h, so they start with both corrections: multiples of 128.
	ldr	r6, [sp, #F_WSHIFT]
	asrs	r3, r6
	asrs	r4, r6
	asrs	r5, r6
	ldr	r6, [sp, #F_IX]
	adds	r3, r3, r6
	ldr	r6, [sp, #F_IX + 4]
	adds	r4, r4, r6
	ldr	r6, [sp, #F_IX + 8]
	adds	r5, r5, r6
	stm	r2!, {r3-r5}
	ldr	r0, [sp, #F_W]
	b	.Lblock
	.p2align 2
	.ltorg

	@ Eight units: the candidate's rows of all, then reset and update of four and four.
.Lblock:
	str	r0, [sp, #F_W]
	ldr	r1, [sp, #F_PARAMS]
	adds	r1, r1, r0
	str	r1, [sp, #F_PARAM]
	@ W x, candidate: behind four words a column of the others.
	ldr	r1, [sp, #F_X16]
	lsls	r2, r1, #1
	adds	r0, r0, r2
	adds	r1, r1, r0
	str	r1, [sp, #F_U]
	START8	F_X, F_XEND, F_XE, F_IX, .Lwx
	.p2align 2
.Lwx:
	ldr	r1, [sp, #F_PARAM]
	movs	r5, #128
	lsls	r5, r5, #8
	ROWS	r6, r8, r9, r10, MW_N, B_NX, F_NX, KEEP
	adds	r1, #64
	ROWS	r7, r11, r12, lr, MW_N, B_NX, F_NX + 16, KEEP
	@ U h, candidate.
	ldr	r2, [sp, #F_H32]
	adds	r0, r0, r2
	START8	F_H, F_HEND, F_HE, F_IH, .Luh
	.p2align 2
.Luh:
	ldr	r1, [sp, #F_PARAM]
	movs	r5, #128
	lsls	r5, r5, #8
	adds	r0, r5, r5
	subs	r0, #1
	ROWS	r6, r8, r9, r10, MU_N, B_NH, F_NH, SAT
	adds	r1, #64
	ROWS	r7, r11, r12, lr, MU_N, B_NH, F_NH + 16, SAT
	FOUR	0
	ldr	r1, [sp, #F_BLOCKS]
	subs	r1, #1
	bne	1f
	b	.Lend
1:	subs	r1, #1
	str	r1, [sp, #F_BLOCKS]
	b	.Lfour1
.Lagain:
	b	.Lblock			@ out of reach from the end

	.p2align 2
	.thumb_func
.Lloop8:
	.rept	GRU_PAIRS
	PAIR8
	.endr
	ldr	r2, [sp, #F_CUR]
	cmp	r1, r2
	beq	1f
	b	.Lloop8
1:	ldr	r2, [sp, #F_NEXT]
	mov	pc, r2

	.p2align 2
.Lfour1:
	FOUR	1
	adds	r0, #64
	ldr	r1, [sp, #F_HP]
	adds	r1, #16
	str	r1, [sp, #F_HP]
	ldr	r1, [sp, #F_OUT]
	adds	r1, #16
	str	r1, [sp, #F_OUT]
	ldr	r1, [sp, #F_BLOCKS]
	cmp	r1, #0
	beq	.Lend
	b	.Lagain
.Lend:
	add	sp, #FRAME
	pop	{r4-r7}
	mov	r8, r4
	mov	r9, r5
	mov	r10, r6
	mov	r11, r7
	pop	{r4-r7, pc}
	.size	gru_quad_gru, . - gru_quad_gru

@ ---- Dense layer -----------------------------------------------------------------------

	.equ	D_W, 0		@ arguments, as struct DenseArgs has them
	.equ	D_X, 4
	.equ	D_OUT, 8
	.equ	D_PARAMS, 12
	.equ	D_XEND, 16
	.equ	D_QUADS, 20
	.equ	D_ENTRY, 24
	.equ	D_IX, 28
	.equ	D_FRAME, 40

	@ r2 = sat16(bias + floor(r2 * m / 2^32)), the upper half unspecified; r1 -> m, bias.
	@ Clobbers r3-r6.
	.p2align 2
	.thumb_func
.Ldense_row:
	ldr	r3, [r1]
	uxth	r4, r2
	asrs	r2, r2, #16
	uxth	r5, r3
	lsrs	r3, r3, #16
	movs	r6, r4
	muls	r6, r5, r6
	lsrs	r6, r6, #16
	muls	r5, r2, r5
	adds	r6, r6, r5	@ ah ml + (al ml >> 16): fits
	muls	r4, r3, r4
	muls	r2, r3, r2
	uxth	r5, r6
	adds	r4, r4, r5	@ al mh + low half: fits unsigned
	lsrs	r4, r4, #16
	asrs	r6, r6, #16
	adds	r2, r2, r6
	adds	r2, r2, r4
	ldr	r3, [r1, #4]
	adds	r2, r2, r3
	movs	r5, #128
	lsls	r5, r5, #8
	adds	r2, r2, r5
	adds	r4, r5, r5
	subs	r4, #1
	CLAMP	r2, r3, r4
	subs	r2, r2, r5
	bx	lr

	.global	gru_quad_dense
	.type	gru_quad_dense, %function
	.p2align 2
	.thumb_func
gru_quad_dense:
	push	{r4-r7, lr}
	mov	r4, r8
	mov	r5, r9
	mov	r6, r10
	push	{r4-r6}
	sub	sp, #D_FRAME
	mov	r1, sp
	ldm	r0!, {r2-r7}
	stm	r1!, {r2-r7}
	@ r6 = pairs of columns.
	ENTRY	r2, r3, r6, .Lloop4, 52, GRU_PAIRS - 1
	str	r2, [sp, #D_ENTRY]
	ldr	r0, [sp, #D_X]
	lsls	r1, r6, #2
	adds	r1, r1, r0
	str	r1, [sp, #D_XEND]
	adds	r6, #1
	lsrs	r6, r6, #1
	lsls	r6, r6, #3
	adds	r1, r0, r6
	add	r2, sp, #D_IX
	bl	.Linit
	ldr	r0, [sp, #D_W]
.Lquad:
	ldr	r1, [sp, #D_X]
	add	r2, sp, #D_IX
	ldr	r3, [sp, #D_XEND]
	ldr	r4, [sp, #D_ENTRY]
	bl	.Lmac4
	ldr	r1, [sp, #D_PARAMS]
	mov	r2, r8
	lsls	r2, r2, #8
	subs	r2, r7, r2
	ldr	r7, [sp, #D_OUT]
	bl	.Ldense_row
	strh	r2, [r7]
	adds	r1, #8
	mov	r2, r8
	mov	r3, r9
	lsls	r3, r3, #8
	subs	r2, r2, r3
	bl	.Ldense_row
	strh	r2, [r7, #2]
	adds	r1, #8
	mov	r2, r9
	mov	r3, r10
	lsls	r3, r3, #8
	subs	r2, r2, r3
	bl	.Ldense_row
	strh	r2, [r7, #4]
	adds	r1, #8
	mov	r2, r10
	bl	.Ldense_row
	strh	r2, [r7, #6]
	adds	r1, #8
	str	r1, [sp, #D_PARAMS]
	adds	r7, #8
	str	r7, [sp, #D_OUT]
	ldr	r1, [sp, #D_QUADS]
	subs	r1, #1
	str	r1, [sp, #D_QUADS]
	bne	.Lquad
	add	sp, #D_FRAME
	pop	{r4-r6}
	mov	r8, r4
	mov	r9, r5
	mov	r10, r6
	pop	{r4-r7, pc}
	.p2align 2
	.ltorg
	.size	gru_quad_dense, . - gru_quad_dense

@ ---- around the layers -----------------------------------------------------------------

	@ r0 = a feature's conditioning of the raw count r1; r0 -> its twelve bytes:
	@ offset (4), counts per unit (4), multiplier (2), shift (1), pre_shift (1).
	.section .text.gru_quad_condition, "ax", %progbits
	.global	gru_quad_condition
	.type	gru_quad_condition, %function
	.p2align 2
	.thumb_func
gru_quad_condition:
	push	{r4, lr}
	ldr	r2, [r0]
	subs	r3, r1, r2
	@ Saturated where the signs of the operands differ and the result's is not the first one's.
	eors	r2, r1
	movs	r4, r1
	eors	r4, r3
	ands	r2, r4
	asrs	r2, r2, #31
	asrs	r1, r1, #31
	movs	r4, #1
	lsls	r4, r4, #31
	mvns	r4, r4
	eors	r1, r4
	eors	r1, r3
	ands	r1, r2
	eors	r3, r1
	@ Rounded shift before the multiplication; most features have none.
	ldrb	r2, [r0, #11]
	cmp	r2, #0
	beq	1f
	movs	r1, #1
	lsls	r1, r2
	lsrs	r1, r1, #1
	adds	r1, r3, r1
	movs	r4, r1
	bics	r4, r3		@ from positive to negative: too large
	asrs	r4, r4, #31
	orrs	r1, r4
	lsls	r4, r4, #31
	eors	r1, r4
	asrs	r1, r2
	movs	r3, r1
	@ To -65536..65535: where bits 16 to 31 are not all the sign.
1:	asrs	r1, r3, #31
	asrs	r2, r3, #16
	eors	r2, r1
	negs	r2, r2
	sbcs	r2, r2
	movs	r4, #1
	lsls	r4, r4, #16
	subs	r4, #1
	eors	r1, r4
	eors	r1, r3
	ands	r1, r2
	eors	r3, r1
	@ And -65536 to -65535.
	adds	r2, r4, #1
	adds	r2, r2, r3
	movs	r1, #0
	negs	r2, r2
	adcs	r3, r1
	ldrh	r2, [r0, #8]
	muls	r3, r2, r3
	ldrb	r2, [r0, #10]
	movs	r1, #1
	lsls	r1, r2
	lsrs	r1, r1, #1
	adds	r3, r3, r1
	asrs	r3, r2
	movs	r2, #128
	lsls	r2, r2, #8
	adds	r3, r3, r2
	CLAMP	r3, r1, r4
	subs	r0, r3, r2
	pop	{r4, pc}
	.size	gru_quad_condition, . - gru_quad_condition

	@ The same for r3 >= 1 counts of 16 bits at r1, whose features are narrow, to r2.
	.section .text.gru_quad_condition_narrow, "ax", %progbits
	.global	gru_quad_condition_narrow
	.type	gru_quad_condition_narrow, %function
	.p2align 2
	.thumb_func
gru_quad_condition_narrow:
	push	{r4-r7, lr}
	lsls	r7, r3, #1
	adds	r7, r7, r2
	mov	lr, r7
	movs	r7, #1
	lsls	r7, r7, #15
	mov	r12, r7
	lsls	r7, r7, #1
	subs	r7, #1
1:	ldm	r0!, {r3, r4, r5}
	ldrh	r6, [r1]
	sxth	r6, r6
	subs	r6, r6, r3
	uxth	r4, r5
	muls	r6, r4, r6
	movs	r3, #0
	lsrs	r5, r5, #16		@ leaves no carry: multipliers have 15 bits
	asrs	r6, r5
	adcs	r6, r3			@ rounds
	add	r6, r12
	CLAMP	r6, r3, r7
	add	r6, r12
	strh	r6, [r2]
	adds	r1, #2
	adds	r2, #2
	cmp	r2, lr
	bne	1b
	pop	{r4-r7, pc}
	.size	gru_quad_condition_narrow, . - gru_quad_condition_narrow

	@ Copies r2 double words from r0 to r1.
	.section .text.gru_quad_copy, "ax", %progbits
	.global	gru_quad_copy
	.type	gru_quad_copy, %function
	.p2align 2
	.thumb_func
gru_quad_copy:
	push	{r4-r6, lr}
	lsrs	r2, r2, #1
	bcc	1f
	ldm	r0!, {r3, r4}
	stm	r1!, {r3, r4}
1:	cmp	r2, #0
	beq	3f
2:	ldm	r0!, {r3-r6}
	stm	r1!, {r3-r6}
	subs	r2, #1
	bne	2b
3:	pop	{r4-r6, pc}
	.size	gru_quad_copy, . - gru_quad_copy
