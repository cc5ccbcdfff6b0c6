@ GRU and Dense layers on the Quad layout for ARMv6-M (Cortex-M0, M0+); also runs on ARMv7-M.
@
@ A block of a GRU layer has eight units: the candidate of all, reset and update of four units, those
@ of the other four. So the loop over columns always has eight rows.
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

	@ One column of eight rows, x as a word: 27 cycles, 48 bytes.
	.macro	COLUMN8
	ldm	r1!, {r2}
	ldm	r0!, {r3, r4}
	MAC4	r3, r2, r5, r6, r8, r9, r10
	MAC4	r4, r2, r5, r7, r11, r12, lr
	.endm

	@ Two columns of four rows, x in halves, summed in r12: 31 cycles, 56 bytes.
	.macro	PAIR4
	ldm	r1!, {r2}
	sxth	r3, r2
	ldm	r0!, {r4, r5}
	MAC4	r4, r3, r6, r7, r8, r9, r10
	add	r12, r3
	asrs	r2, r2, #16
	add	r12, r2
	MAC4	r5, r2, r6, r7, r8, r9, r10
	.endm

	.section .text.gru_quad, "ax", %progbits

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
@
@ The loop reads x and h as words, which the buffer holds: x, x shifted by w_shift and h, so that
@ the sums of a gate over both are those of one row. The second x may be the first. The state is
@ changed in place.

	.equ	F_NEXT, 0	@ where the loop goes on when it is at the end
	.equ	F_RX, 4		@ for x, h, both: first word, end, entry into the loop, i2
	.equ	F_RH, 20
	.equ	F_RJ, 36
	.equ	F_NX, 52	@ eight units each
	.equ	F_NH, 84
	.equ	F_W, 116	@ the next weights
	.equ	F_PARAM, 120	@ the block's parameters
	.equ	F_HP, 124	@ h of the block's units
	.equ	F_CUR, 128	@ end of the x that the loop runs over
	.equ	F_SHIFT, 132	@ of the reset product
	.equ	F_LEN, 136	@ of a block's weights
	.ifndef	GRU_SPARSE
	.equ	FRAME, 140
	.endif
	.equ	A_LAYER, FRAME + 36	@ the arguments behind the saved registers
	.equ	A_TABLE, A_LAYER + 4
	.equ	F_BLOCKS, A_LAYER	@ then: of four units

	@ In a GruLayer.
	.equ	G_INPUT, 8
	.equ	G_UNITS, 10
	.equ	G_NH_SHIFT, 13
	.equ	G_W_SHIFT, 14

	@ A unit's parameters; the biases are biased by 32768.
	.equ	MU_R, 0
	.equ	MU_Z, 2
	.equ	MW_N, 4
	.equ	MU_N, 6
	.equ	B_R, 8
	.equ	B_Z, 10
	.equ	B_NX, 12
	.equ	B_NH, 14

	@ One row: acc to b + 32768 + req(acc). \p -> parameters.
	.macro	ROW acc, t, m, p, mul, bias
	ldrh	\m, [\p, #\mul]
	REQ	\acc, \t, \m
	ldrh	\m, [\p, #\bias]
	adds	\acc, \acc, \m
	.endm

	@ Four rows, units D to A, with sums \a \b \c \d, the first one of them in r6 or r7: r1 =
	@ parameters; results at \slot. Where \a is r6, it goes to \d meanwhile.
	@ Clobbers r2, r3, r4, r6, \d.
	.macro	ROWS a, b, c, d, mul, bias, slot, finish
	mov	r2, \d
	lsls	r4, r2, #8
	.ifc	\a, r6
	mov	\d, \a
	.endif
	ROW	r2, r3, r6, r1, \mul + 48, \bias + 48
	\finish	r2, r6
	str	r2, [sp, #\slot + 12]
	mov	r2, \c
	subs	r6, r2, r4
	lsls	r4, r2, #8
	ROW	r6, r3, r2, r1, \mul + 32, \bias + 32
	\finish	r6, r2
	str	r6, [sp, #\slot + 8]
	mov	r2, \b
	subs	r6, r2, r4
	lsls	r4, r2, #8
	ROW	r6, r3, r2, r1, \mul + 16, \bias + 16
	\finish	r6, r2
	str	r6, [sp, #\slot + 4]
	.ifc	\a, r6
	mov	r6, \d
	.endif
	subs	r6, \a, r4
	ROW	r6, r3, r2, r1, \mul, \bias
	\finish	r6, r2
	str	r6, [sp, #\slot]
	.endm

	.macro	KEEP u, t
	.endm

	@ To sat16 + 32768 in the lower half, r5 = 65535.
	.macro	SAT u, t
	CLAMP	\u, \t, r5
	.endm

	@ \sum less \next shifted by \by.
	.macro	PART sum, next, by=8
	mov	r2, \next
	lsls	r2, r2, #\by
	subs	\sum, \sum, r2
	.endm

	@ The gates of unit \u of four: sum of r in r6; ZSUM_\u makes that of z in r7. r0 = parameters of the four, r1 = table,
	@ \max = 65535, \mask = 2044 or nothing, r5 = 32768, \shift the shift of the reset product or
	@ nothing. Clobbers r2, r3, r6, r7.
	.macro	UNIT u, half, max, mask, shift
	ROW	r6, r3, r2, r0, MU_R + 16 * \u, B_R + 16 * \u
	CLAMP	r6, r2, \max
	TANH	r6, r2, r3, \mask
	adds	r6, r6, r5		@ r
	ldr	r2, [sp, #F_NH + 16 * \half + 4 * \u]
	uxth	r2, r2
	subs	r2, r2, r5
	muls	r6, r2, r6
	.ifb	\shift
	ldr	r3, [sp, #F_SHIFT]
	.else
	mov	r3, \shift
	.endif
	asrs	r6, r3
	ldr	r2, [sp, #F_NX + 16 * \half + 4 * \u]
	adds	r6, r6, r2
	CLAMP	r6, r2, \max
	TANH	r6, r2, r3, \mask		@ n
	ROW	r7, r3, r2, r0, MU_Z + 16 * \u, B_Z + 16 * \u
	CLAMP	r7, r2, \max
	TANH	r7, r2, r3, \mask
	adds	r7, r7, r5		@ z
	ldr	r3, [sp, #F_HP]		@ n + z (h - n), rounded
	ldrh	r2, [r3, #8 * \half + 2 * \u]
	sxth	r2, r2
	subs	r2, r2, r6
	muls	r2, r7, r2
	asrs	r2, r2, #16		@ modulo 2^16; leaves what rounds in the carry
	adcs	r2, r6
	strh	r2, [r3, #8 * \half + 2 * \u]
	.endm

	@ The loop over eight rows, with weights from r0, from \record; \next comes after it.
	@ Sums of the first word in r6 r8 r9 r10, of the second in r7 r11 r12 lr. Clobbers r1-r5.
	.macro	START8 record, next, far
	.ifb	\far
	adr	r2, \next
	.else
	ldr	r2, =\next
	.endif
	str	r2, [sp, #F_NEXT]
	add	r2, sp, #\record
	ldm	r2!, {r1, r3, r4, r5}
	str	r3, [sp, #F_CUR]
	mov	r9, r5
	mov	r12, r5
	lsls	r6, r5, #8
	adds	r6, r6, r5		@ i1
	mov	r8, r6
	mov	r11, r6
	lsls	r6, r6, #8
	adds	r6, r6, r5		@ i0
	movs	r7, r6
	movs	r5, #0
	mov	r10, r5
	mov	lr, r5
	bx	r4
	.endm

	@ Reset and update of four units from the sums, and the new states.
	.macro	FOUR half
	.p2align 2
.Lgates\half:
	.if	\half == 0
	str	r0, [sp, #F_W]
	.endif
	ldr	r0, [sp, #F_PARAM]
	.if	\half == 1
	adds	r0, #64
	.endif
	ldr	r1, [sp, #A_TABLE]
	movs	r5, #128
	lsls	r5, r5, #8
	adds	r4, r5, r5
	subs	r4, #1
	PART	r6, r8
	PART	r7, r11
	UNIT	0, \half, r4
	mov	r6, r8
	PART	r6, r9
	mov	r7, r11
	PART	r7, r12
	mov	r8, r4			@ two high registers are free from here on
	ldr	r4, [sp, #F_SHIFT]
	mov	r11, r4
	ldr	r4, =2044
	UNIT	1, \half, r8, r4, r11
	mov	r6, r9
	PART	r6, r10
	mov	r7, r12
	PART	r7, lr
	UNIT	2, \half, r8, r4, r11
	mov	r6, r10
	mov	r7, lr
	UNIT	3, \half, r8, r4, r11
	.endm

	@ Words from the 16-bit values from r0 to r1 (a multiple of four) to r2; r7 = their sum.
	@ Clobbers r0, r2-r6.
	.p2align 2
	.thumb_func
.Lexpand:
	movs	r7, #0
1:	ldm	r0!, {r4, r6}
	sxth	r3, r4
	asrs	r4, r4, #16
	sxth	r5, r6
	asrs	r6, r6, #16
	stm	r2!, {r3, r4, r5, r6}
	adds	r3, r3, r4
	adds	r5, r5, r6
	adds	r7, r7, r3
	adds	r7, r7, r5
	cmp	r0, r1
	bne	1b
	bx	lr

	@ Both kernels: the words and their sums. r0 = blocks, r1 = x, r2 = h, r3 = buffer; the frame is
	@ there. Returns r1 = the sum over x, r4 over x, shifted, and h, r5 over h; r6 = columns of x, r7 of h; at
	@ F_RX, F_RJ, F_RH the first words. Clobbers all others.
	.p2align 2
	.thumb_func
.Lwords:
	mov	r8, lr
	str	r0, [sp, #F_W]
	str	r2, [sp, #F_HP]
	str	r3, [sp, #F_RX]
	ldr	r4, [sp, #A_LAYER]
	.ifdef	GRU_SPARSE
	HAS_PANELS
	.endif
	ldrb	r5, [r4, #G_NH_SHIFT]
	movs	r6, #16
	subs	r6, r6, r5
	str	r6, [sp, #F_SHIFT]
	ldrb	r7, [r4, #G_W_SHIFT]
	mov	r9, r7
	ldrh	r6, [r4, #G_INPUT]
	mov	r10, r6
	ldrh	r7, [r4, #G_UNITS]
	mov	r11, r7
	adds	r7, #3
	lsrs	r7, r7, #2
	str	r7, [sp, #F_BLOCKS]
	movs	r2, r3
	movs	r0, r1
	adds	r6, #3
	lsrs	r6, r6, #2
	lsls	r6, r6, #3
	adds	r1, r0, r6
	bl	.Lexpand
	mov	r12, r7
	@ The words of the gates' x are others where they are shifted or the columns odd.
	mov	r6, r10
	mov	r7, r9
	ldr	r0, [sp, #F_RX]
	movs	r1, r2
	movs	r2, r0
	lsls	r4, r6, #31
	orrs	r4, r7
	beq	2f
	adds	r4, r6, #1
	lsrs	r4, r4, #1
	lsls	r4, r4, #3
	adds	r2, r0, r4
	str	r2, [sp, #F_RJ]
1:	ldm	r0!, {r3, r4, r5, r6}
	lsls	r3, r7
	lsls	r4, r7
	lsls	r5, r7
	lsls	r6, r7
	stm	r2!, {r3, r4, r5, r6}
	cmp	r0, r1
	bne	1b
	ldr	r2, [sp, #F_RJ]
2:	str	r2, [sp, #F_RJ]
	mov	r6, r10
	lsls	r6, r6, #2
	adds	r2, r2, r6
	str	r2, [sp, #F_RH]
	ldr	r0, [sp, #F_HP]
	ldr	r7, [sp, #F_BLOCKS]
	lsls	r7, r7, #3
	adds	r1, r0, r7
	.ifdef	GRU_SPARSE
	KEEP_STATE	3f
	.endif
	bl	.Lexpand
3:	mov	r3, r9
	mov	r1, r12
	movs	r4, r1
	lsls	r4, r3
	adds	r4, r4, r7
	movs	r5, r7
	mov	r6, r10
	mov	r7, r11
	bx	r8

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
	bl	.Lwords
	lsls	r4, r4, #7
	negs	r4, r4
	str	r4, [sp, #F_RJ + 12]
	.ifdef	GRU_SPARSE
	str	r4, [sp, #F_JX]
	.endif
	lsls	r1, r1, #7
	negs	r1, r1
	str	r1, [sp, #F_RX + 12]
	lsls	r5, r5, #7
	negs	r5, r5
	str	r5, [sp, #F_RH + 12]
	@ The ends.
	ldr	r0, [sp, #F_RX]
	lsls	r4, r6, #2
	adds	r0, r0, r4
	str	r0, [sp, #F_RX + 4]
	ldr	r0, [sp, #F_RH]
	lsls	r4, r7, #2
	adds	r0, r0, r4
	str	r0, [sp, #F_RH + 4]
	str	r0, [sp, #F_RJ + 4]
	@ Entries into the loop: the first pass does what is left over from a multiple of them.
	ldr	r0, =.Lloop8 + 1
	movs	r1, #GRU_COLUMNS - 1
	movs	r2, #48
	adds	r4, r6, r7
	lsls	r5, r4, #4
	lsls	r3, r4, #3
	adds	r5, r5, r3
	str	r5, [sp, #F_LEN]
	negs	r4, r4
	ands	r4, r1
	muls	r4, r2, r4
	adds	r4, r4, r0
	str	r4, [sp, #F_RJ + 8]
	negs	r6, r6
	ands	r6, r1
	muls	r6, r2, r6
	adds	r6, r6, r0
	str	r6, [sp, #F_RX + 8]
	negs	r7, r7
	ands	r7, r1
	muls	r7, r2, r7
	adds	r7, r7, r0
	str	r7, [sp, #F_RH + 8]
	ldr	r0, [sp, #F_W]
	b	.Lpanel
	.p2align 2
	.ltorg

	@ Eight units: the candidate's rows of all, then reset and update of four and four. Here are the
	@ latter.
	FOUR	1
	adds	r0, #64
	ldr	r1, [sp, #F_HP]
	adds	r1, #16
	str	r1, [sp, #F_HP]
	ldr	r1, [sp, #F_BLOCKS]
	cmp	r1, #0
	bne	.Lpanel
.Lend:
	add	sp, #FRAME
	pop	{r4-r7}
	mov	r8, r4
	mov	r9, r5
	mov	r10, r6
	mov	r11, r7
	pop	{r4-r7, pc}
	.p2align 2
	.ltorg
.Lpanel:
	.ifdef	GRU_SPARSE
	ldr	r1, [sp, #F_STATE]
	cmp	r1, #0
	beq	.Lblock
	PANEL
	.endif
.Lblock:
	ldr	r1, [sp, #F_LEN]
	adds	r1, r1, r0
	str	r1, [sp, #F_PARAM]
	START8	F_RX, .Lwx
	.p2align 2
	.ifdef	GRU_SPARSE
	.ltorg
	.endif
.Lwx:
	ldr	r1, [sp, #F_PARAM]
	ROWS	r6, r8, r9, r10, MW_N, B_NX, F_NX, KEEP
	adds	r1, #64
	ROWS	r7, r11, r12, lr, MW_N, B_NX, F_NX + 16, KEEP
	START8	F_RH, .Luh
	.p2align 2
.Luh:
	ldr	r1, [sp, #F_PARAM]
	movs	r5, #1
	lsls	r5, r5, #16
	subs	r5, #1
	ROWS	r6, r8, r9, r10, MU_N, B_NH, F_NH, SAT
	adds	r1, #64
	ROWS	r7, r11, r12, lr, MU_N, B_NH, F_NH + 16, SAT
	START8	F_RJ, .Lgates0
	FOUR	0
	ldr	r1, [sp, #F_BLOCKS]
	subs	r1, #1
	bne	1f
	b	.Lend
1:	subs	r1, #1
	str	r1, [sp, #F_BLOCKS]
	ldr	r0, [sp, #F_W]
	START8	F_RJ, .Lgates1, far
	.p2align 2
	.ltorg

	.p2align 2
.Lloop8:
	.rept	GRU_COLUMNS
	COLUMN8
	.endr
	ldr	r2, [sp, #F_CUR]
	cmp	r1, r2
	beq	1f
	b	.Lloop8
1:	ldr	r2, [sp, #F_NEXT]
	mov	pc, r2
	.size	gru_quad_gru, . - gru_quad_gru

@ ---- Dense layer -----------------------------------------------------------------------

	.equ	D_W, 0
	.equ	D_X, 4
	.equ	D_OUT, 8
	.equ	D_PARAMS, 12
	.equ	D_XEND, 16
	.equ	D_ROWS, 20	@ left
	.equ	D_ENTRY, 24
	.equ	D_FRAME, 28

	@ In a DenseLayer.
	.equ	L_INPUT, 8
	.equ	L_UNITS, 10

	@ Stores sat16(bias + floor(r2 * m / 2^32)) to r7; r1 -> m, bias. Both move on. r11 = 32768.
	@ Clobbers r0, r3-r6.
	.p2align 2
	.thumb_func
.Ldense_row:
	ldm	r1!, {r3, r4}
	uxth	r5, r3
	lsrs	r3, r3, #16
	uxth	r6, r2
	asrs	r2, r2, #16
	movs	r0, r5
	muls	r0, r6, r0
	lsrs	r0, r0, #16
	muls	r5, r2, r5
	adds	r0, r0, r5	@ ah ml + (al ml >> 16): fits
	muls	r6, r3, r6
	muls	r2, r3, r2
	uxth	r5, r0
	adds	r6, r6, r5	@ al mh + low half: fits unsigned
	lsrs	r6, r6, #16
	asrs	r0, r0, #16
	adds	r2, r2, r0
	adds	r2, r2, r6
	adds	r2, r2, r4
	add	r2, r11
	mov	r3, r11
	adds	r3, r3, r3
	subs	r3, #1
	CLAMP	r2, r5, r3
	add	r2, r11
	strh	r2, [r7]
	adds	r7, #2
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
	mov	r7, r11
	push	{r4-r7}
	sub	sp, #D_FRAME
	ldrh	r6, [r3, #L_INPUT]
	ldrh	r5, [r3, #L_UNITS]
	adds	r6, #1
	lsrs	r6, r6, #1		@ pairs of columns
	str	r5, [sp, #D_ROWS]
	adds	r5, #3
	lsrs	r5, r5, #2
	muls	r5, r6, r5
	lsls	r5, r5, #3
	adds	r3, r0, r5
	mov	r4, sp
	stm	r4!, {r0, r1, r2, r3}
	lsls	r2, r6, #2
	adds	r2, r2, r1
	str	r2, [sp, #D_XEND]
	@ The first pass does what is left over.
	negs	r4, r6
	movs	r2, #GRU_PAIRS - 1
	ands	r4, r2
	movs	r2, #56
	muls	r4, r2, r4
	ldr	r2, =.Lloop4 + 1
	adds	r4, r4, r2
	str	r4, [sp, #D_ENTRY]
	movs	r2, #128
	lsls	r2, r2, #8
	mov	r11, r2
.Lquad:
	movs	r7, #0
	mov	r8, r7
	mov	r9, r7
	mov	r10, r7
	mov	r12, r7
	bx	r4
	.p2align 2
.Lloop4:
	.rept	GRU_PAIRS
	PAIR4
	.endr
	ldr	r2, [sp, #D_XEND]
	cmp	r1, r2
	beq	1f
	b	.Lloop4
1:	str	r0, [sp, #D_W]
	ldr	r1, [sp, #D_PARAMS]
	movs	r2, r7
	ldr	r7, [sp, #D_OUT]
	mov	r3, r12			@ what takes off the bias of 128
	lsls	r3, r3, #7
	negs	r3, r3
	mov	r12, r3
	mov	r3, r8
	lsls	r3, r3, #8
	subs	r2, r2, r3
	add	r2, r12
	bl	.Ldense_row
	ldr	r0, [sp, #D_ROWS]
	cmp	r0, #1
	beq	1f
	mov	r2, r8
	mov	r3, r9
	lsls	r3, r3, #8
	subs	r2, r2, r3
	add	r2, r12
	bl	.Ldense_row
	ldr	r0, [sp, #D_ROWS]
	cmp	r0, #2
	beq	1f
	mov	r2, r9
	mov	r3, r10
	lsls	r3, r3, #8
	subs	r2, r2, r3
	add	r2, r12
	bl	.Ldense_row
	ldr	r0, [sp, #D_ROWS]
	cmp	r0, #3
	beq	1f
	mov	r2, r10
	bl	.Ldense_row
	str	r1, [sp, #D_PARAMS]
	str	r7, [sp, #D_OUT]
	ldr	r0, [sp, #D_ROWS]
	subs	r0, #4
	str	r0, [sp, #D_ROWS]
	beq	1f
	ldr	r0, [sp, #D_W]
	ldr	r1, [sp, #D_X]
	ldr	r4, [sp, #D_ENTRY]
	b	.Lquad
1:	add	sp, #D_FRAME
	pop	{r4-r7}
	mov	r8, r4
	mov	r9, r5
	mov	r10, r6
	mov	r11, r7
	pop	{r4-r7, pc}
	.p2align 2
	.ltorg
	.size	gru_quad_dense, . - gru_quad_dense
