@ GRU layers on the Quad4 layout for ARMv6-M, behind quad_v6m.s, whose macros it uses.
@
@ A word holds one column of the gates: eight rows of four bits, z of D C B A and r of D C B A from
@ the top, z of D signed and the others biased by 8; or two columns of the candidate, D C B A of
@ the earlier one in the upper half. As with whole bytes the word is shifted to the right, here by
@ 28, 24, ... 0, each result is multiplied by x and summed modulo 2^32:
@
@   S7 = D   S6 = 2^4 S7 + C'   ...   S0 = 2^4 S1 + A'     (' = biased, sums over the columns)
@
@ The weights are sixteen times what is stored, so a row is 2^4 (S - 2^4 S of the next), less
@ 128 sum(x) but for the top row. The candidate's sums start such that this is in them already, the
@ gates' start at zero and get it for x and h at once, at the end.

	@ One column of eight rows: the word \w (destroyed) times \x, into r6 r8 r9 r10 and r7 r11 r12 lr.
	.macro	MAC8N w, x, t
	asrs	\t, \w, #28
	muls	\t, \x, \t
	add	lr, \t
	asrs	\t, \w, #24
	muls	\t, \x, \t
	add	r12, \t
	asrs	\t, \w, #20
	muls	\t, \x, \t
	add	r11, \t
	asrs	\t, \w, #16
	muls	\t, \x, \t
	adds	r7, r7, \t
	asrs	\t, \w, #12
	muls	\t, \x, \t
	add	r10, \t
	asrs	\t, \w, #8
	muls	\t, \x, \t
	add	r9, \t
	asrs	\t, \w, #4
	muls	\t, \x, \t
	add	r8, \t
	muls	\w, \x, \w
	adds	r6, r6, \w
	.endm

	@ Two columns of the gates: 54 cycles, 102 bytes.
	.macro	PAIR8N
	ldm	r1!, {r2}
	sxth	r5, r2
	ldm	r0!, {r3}
	MAC8N	r3, r5, r4
	asrs	r2, r2, #16
	ldm	r0!, {r3}
	MAC8N	r3, r2, r4
	.endm

	@ Two columns of the candidate, sums in r7 r8 r9 r10: 30 cycles, 56 bytes.
	.macro	PAIR4N
	ldm	r1!, {r2}
	sxth	r3, r2
	ldm	r0!, {r4}
	asrs	r5, r4, #28
	muls	r5, r3, r5
	add	r10, r5
	asrs	r5, r4, #24
	muls	r5, r3, r5
	add	r9, r5
	asrs	r5, r4, #20
	muls	r5, r3, r5
	add	r8, r5
	asrs	r5, r4, #16
	muls	r5, r3, r5
	adds	r7, r7, r5
	sxth	r4, r4
	asrs	r2, r2, #16
	asrs	r5, r4, #12
	muls	r5, r2, r5
	add	r10, r5
	asrs	r5, r4, #8
	muls	r5, r2, r5
	add	r9, r5
	asrs	r5, r4, #4
	muls	r5, r2, r5
	add	r8, r5
	muls	r4, r2, r4
	adds	r7, r7, r4
	.endm

	@ Four rows as ROWS has them, of sums of half bytes.
	.macro	ROWSN mul, bias, slot, finish
	mov	r6, r10
	lsls	r6, r6, #4
	movs	r4, r6
	ROW	r6, r3, r2, \mul + 48, \bias + 48
	\finish	r6, r2
	str	r6, [sp, #\slot + 12]
	mov	r2, r9
	subs	r6, r2, r4
	lsls	r4, r2, #4
	lsls	r6, r6, #4
	ROW	r6, r3, r2, \mul + 32, \bias + 32
	\finish	r6, r2
	str	r6, [sp, #\slot + 8]
	mov	r2, r8
	subs	r6, r2, r4
	lsls	r4, r2, #4
	lsls	r6, r6, #4
	ROW	r6, r3, r2, \mul + 16, \bias + 16
	\finish	r6, r2
	str	r6, [sp, #\slot + 4]
	subs	r6, r7, r4
	lsls	r6, r6, #4
	ROW	r6, r3, r2, \mul, \bias
	\finish	r6, r2
	str	r6, [sp, #\slot]
	.endm

	@ \sum - 2^4 \next, times 2^4, and the correction. Clobbers r2 and r3.
	.macro	PART sum, next
	mov	r2, \next
	ldr	r3, [sp, #F_JOINT]
	lsls	r2, r2, #4
	subs	\sum, \sum, r2
	lsls	\sum, \sum, #4
	adds	\sum, \sum, r3
	.endm

	@ The starts of the candidate's sums from -128 sum(x) at \slot + 8.
	.macro	START slot
	ldr	r5, [sp, #\slot + 8]
	asrs	r5, r5, #4
	lsls	r4, r5, #4
	adds	r4, r4, r5
	lsls	r3, r4, #4
	adds	r3, r3, r5
	add	r2, sp, #\slot
	stm	r2!, {r3-r5}
	.endm

	@ The frame of these layers, in place of that of whole bytes.
	.equ	F_BLOCK, 0	@ the first four arguments
	.equ	F_X, 4
	.equ	F_H, 8
	.equ	F_OUT, 12
	.equ	F_PARAM, 16	@ the block's parameters
	.equ	F_CUR, 20	@ end of the x that the loop runs over
	.equ	F_X8, 24	@ entries into the loops
	.equ	F_H8, 28
	.equ	F_X4, 32
	.equ	F_H4, 36
	.equ	F_SKIP, 40	@ bytes of the candidate's weights for x
	.equ	F_HP, 44	@ h of the block's units
	.equ	F_IX, 48	@ i0 i1 i2 of x
	.equ	F_IH, 60	@ of h
	.equ	F_IJ, 72	@ two words
	.equ	F_NX, 84	@ four units each
	.equ	F_NH, 100
	.equ	FRAME, 116
	.equ	ARGS, FRAME + 36	@ the other arguments, behind the saved registers
	.equ	F_XEND, ARGS	@ comes as pairs of columns of x
	.equ	F_HEND, ARGS + 4	@ comes as pairs of columns of h
	.equ	F_BLOCKS, ARGS + 8
	.equ	F_SHIFT, ARGS + 12
	.equ	F_TABLE, ARGS + 16
	.equ	F_PARAMS, ARGS + 20	@ from the start of a block
	.equ	F_WSHIFT, ARGS + 24
	.equ	F_JOINT, F_IJ	@ -128 of the sums over x, shifted, and h
	.equ	F_S4, F_IJ + 4	@ z of A, before it is taken apart

	.section .text.gru_quad4, "ax", %progbits

	@ As .Lmac4.
	.p2align 2
	.thumb_func
.Lmac4n:
	ldm	r2!, {r5, r6, r7}
	mov	r12, r3
	mov	r8, r6
	mov	r9, r7
	mov	r7, r5
	movs	r6, #0
	mov	r10, r6
	bx	r4
	.thumb_func
.Lloop4n:
	.rept	GRU_PAIRS
	PAIR4N
	.endr
	cmp	r1, r12
	beq	1f
	b	.Lloop4n
1:	bx	lr

	.global	gru_quad_gru4
	.type	gru_quad_gru4, %function
	.p2align 2
	.thumb_func
gru_quad_gru4:
	push	{r4-r7, lr}
	mov	r4, r8
	mov	r5, r9
	mov	r6, r10
	mov	r7, r11
	push	{r4-r7}
	sub	sp, #FRAME
	mov	r4, sp
	stm	r4!, {r0-r3}
	@ Entries into the loops; the arguments hold the numbers of pairs.
	ldr	r0, [sp, #F_XEND]
	ldr	r1, [sp, #F_HEND]
	ENTRY	r2, r3, r0, .Lloop8n, 102, GRU_PAIRS - 1
	str	r2, [sp, #F_X8]
	ENTRY	r2, r3, r0, .Lloop4n, 56, GRU_PAIRS - 1
	str	r2, [sp, #F_X4]
	ENTRY	r2, r3, r1, .Lloop8n, 102, GRU_PAIRS - 1
	str	r2, [sp, #F_H8]
	ENTRY	r2, r3, r1, .Lloop4n, 56, GRU_PAIRS - 1
	str	r2, [sp, #F_H4]
	@ Ends of x and h; the sums over both run to whole double words, padded with zeros.
	ldr	r6, [sp, #F_X]
	lsls	r7, r0, #2
	str	r7, [sp, #F_SKIP]
	adds	r2, r7, r6
	str	r2, [sp, #F_XEND]
	adds	r0, #1
	lsrs	r0, r0, #1
	lsls	r0, r0, #3
	ldr	r6, [sp, #F_H]
	str	r6, [sp, #F_HP]
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
	bl	.Linit			@ r5 = -128 sum(h)
	ldr	r6, [sp, #F_WSHIFT]
	ldr	r3, [sp, #F_IX + 8]
	lsls	r3, r6
	adds	r3, r3, r5
	str	r3, [sp, #F_JOINT]
	START	F_IX
	START	F_IH
	ldr	r0, [sp, #F_BLOCK]
	b	.Lblock4
	.p2align 2
	.ltorg

.Lblock4:
	str	r0, [sp, #F_BLOCK]
	ldr	r1, [sp, #F_PARAMS]
	adds	r1, r1, r0
	str	r1, [sp, #F_PARAM]
	@ W x, candidate: behind the word a column of the others.
	ldr	r1, [sp, #F_SKIP]
	lsls	r1, r1, #1
	adds	r0, r0, r1
	ldr	r1, [sp, #F_X]
	add	r2, sp, #F_IX
	ldr	r3, [sp, #F_XEND]
	ldr	r4, [sp, #F_X4]
	bl	.Lmac4n
	ldr	r1, [sp, #F_PARAM]
	movs	r5, #128
	lsls	r5, r5, #8
	ROWSN	MW_N, B_NX, F_NX, KEEP
	@ U h, candidate.
	ldr	r1, [sp, #F_H]
	add	r2, sp, #F_IH
	ldr	r3, [sp, #F_HEND]
	subs	r4, r3, r1
	lsls	r4, r4, #1
	adds	r0, r0, r4
	ldr	r4, [sp, #F_H4]
	bl	.Lmac4n
	ldr	r1, [sp, #F_PARAM]
	movs	r5, #128
	lsls	r5, r5, #8
	adds	r0, r5, r5
	subs	r0, #1
	ROWSN	MU_N, B_NH, F_NH, SAT
	@ W x, reset and update: sums in r6 r8 r9 r10 and r7 r11 r12 lr.
	ldr	r0, [sp, #F_BLOCK]
	ldr	r1, [sp, #F_XEND]
	str	r1, [sp, #F_CUR]
	ldr	r1, [sp, #F_X]
	ldr	r4, [sp, #F_X8]
	movs	r6, #0
	movs	r7, #0
	mov	r8, r6
	mov	r9, r6
	mov	r10, r6
	mov	r11, r6
	mov	r12, r6
	mov	lr, r6
	bx	r4
	@ U h on top of them, shifted.
2:	ldr	r2, [sp, #F_SKIP]
	adds	r0, r0, r2
	ldr	r2, [sp, #F_WSHIFT]
	lsls	r6, r2
	lsls	r7, r2
	SHIFT	r8, r4, r2
	SHIFT	r9, r4, r2
	SHIFT	r10, r4, r2
	SHIFT	r11, r4, r2
	SHIFT	r12, r4, r2
	SHIFT	lr, r4, r2
	ldr	r1, [sp, #F_H]
	str	r3, [sp, #F_CUR]
	ldr	r4, [sp, #F_H8]
	bx	r4
	@ The way back is too long for one branch.
.Lnext4:
	b	.Lblock4
	.p2align 2
	.thumb_func
.Lloop8n:
	.rept	GRU_PAIRS
	PAIR8N
	.endr
	ldr	r2, [sp, #F_CUR]
	cmp	r1, r2
	beq	1f
	b	.Lloop8n
1:	ldr	r3, [sp, #F_HEND]
	cmp	r1, r3
	beq	1f
	b	2b
1:	ldr	r0, [sp, #F_PARAM]
	ldr	r1, [sp, #F_TABLE]
	movs	r5, #128
	lsls	r5, r5, #8
	adds	r4, r5, r5
	subs	r4, #1
	str	r7, [sp, #F_S4]
	PART	r6, r8
	PART	r7, r11
	UNIT	0, 0, r4
	mov	r6, r8
	PART	r6, r9
	mov	r7, r11
	PART	r7, r12
	mov	r8, r4			@ two high registers are free from here on
	movs	r4, #255
	lsls	r4, r4, #3
	adds	r4, #4
	UNIT	1, 0, r8, r4
	mov	r6, r9
	PART	r6, r10
	mov	r7, r12
	PART	r7, lr
	UNIT	2, 0, r8, r4
	ldr	r7, [sp, #F_S4]
	mov	r6, r10
	PART	r6, r7
	mov	r7, lr
	lsls	r7, r7, #4
	UNIT	3, 0, r8, r4
	adds	r0, #64
	ldr	r1, [sp, #F_HP]
	adds	r1, #8
	str	r1, [sp, #F_HP]
	ldr	r1, [sp, #F_OUT]
	adds	r1, #8
	str	r1, [sp, #F_OUT]
	ldr	r1, [sp, #F_BLOCKS]
	subs	r1, #1
	str	r1, [sp, #F_BLOCKS]
	beq	1f
	b	.Lnext4
1:	add	sp, #FRAME
	pop	{r4-r7}
	mov	r8, r4
	mov	r9, r5
	mov	r10, r6
	mov	r11, r7
	pop	{r4-r7, pc}
	.size	gru_quad_gru4, . - gru_quad_gru4
