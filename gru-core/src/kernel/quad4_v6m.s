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
@ 128 sum(x) but for the top row. The sums start such that this is in them already: S6 at
@ s6 = -8 sum(x), S5 at s6 + 2^4 s6, and so on.

	@ One column of eight rows, x as a word: 27 cycles, 50 bytes.
	.macro	COLUMN8N
	ldm	r1!, {r2}
	ldm	r0!, {r3}
	asrs	r4, r3, #28
	muls	r4, r2, r4
	add	lr, r4
	asrs	r4, r3, #24
	muls	r4, r2, r4
	add	r12, r4
	asrs	r4, r3, #20
	muls	r4, r2, r4
	add	r11, r4
	asrs	r4, r3, #16
	muls	r4, r2, r4
	adds	r7, r7, r4
	asrs	r4, r3, #12
	muls	r4, r2, r4
	add	r10, r4
	asrs	r4, r3, #8
	muls	r4, r2, r4
	add	r9, r4
	asrs	r4, r3, #4
	muls	r4, r2, r4
	add	r8, r4
	muls	r3, r2, r3
	adds	r6, r6, r3
	.endm

	@ Two columns of the candidate, sums in r7 r8 r9 r10: 29 cycles, 52 bytes.
	.macro	PAIR4N
	ldm	r1!, {r2, r3}
	ldm	r0!, {r4}
	asrs	r5, r4, #28
	muls	r5, r2, r5
	add	r10, r5
	asrs	r5, r4, #24
	muls	r5, r2, r5
	add	r9, r5
	asrs	r5, r4, #20
	muls	r5, r2, r5
	add	r8, r5
	asrs	r5, r4, #16
	muls	r5, r2, r5
	adds	r7, r7, r5
	sxth	r4, r4
	asrs	r5, r4, #12
	muls	r5, r3, r5
	add	r10, r5
	asrs	r5, r4, #8
	muls	r5, r3, r5
	add	r9, r5
	asrs	r5, r4, #4
	muls	r5, r3, r5
	add	r8, r5
	muls	r4, r3, r4
	adds	r7, r7, r4
	.endm

	@ Four rows as ROWS has them, of sums of half bytes.
	.macro	ROWSN mul, bias, slot, finish
	mov	r6, r10
	lsls	r6, r6, #4
	movs	r4, r6
	ROW	r6, r3, r2, r1, \mul + 48, \bias + 48
	\finish	r6, r2
	str	r6, [sp, #\slot + 12]
	mov	r2, r9
	subs	r6, r2, r4
	lsls	r4, r2, #4
	lsls	r6, r6, #4
	ROW	r6, r3, r2, r1, \mul + 32, \bias + 32
	\finish	r6, r2
	str	r6, [sp, #\slot + 8]
	mov	r2, r8
	subs	r6, r2, r4
	lsls	r4, r2, #4
	lsls	r6, r6, #4
	ROW	r6, r3, r2, r1, \mul + 16, \bias + 16
	\finish	r6, r2
	str	r6, [sp, #\slot + 4]
	subs	r6, r7, r4
	lsls	r6, r6, #4
	ROW	r6, r3, r2, r1, \mul, \bias
	\finish	r6, r2
	str	r6, [sp, #\slot]
	.endm

	@ 2^4 (\sum - 2^4 \next).
	.macro	PARTN sum, next
	PART	\sum, \next, 4
	lsls	\sum, \sum, #4
	.endm

	@ s_k from s6 in r5 and the next one in \next.
	.macro	NEXT out, next
	lsls	\out, \next, #4
	adds	\out, \out, r5
	.endm

	@ The frame of these layers, where it differs from that of whole bytes; i2 is the topmost s.
	.equ	F_S4, 0		@ z of A, before it is taken apart
	.equ	F_NX, 52	@ four units each
	.equ	F_NH, 68

	.section .text.gru_quad4, "ax", %progbits

	@ Sums of four rows over pairs of columns, as the record at r2 says. r0 weights, which move on.
	@ Clobbers r1-r6, r12.
	.p2align 2
	.thumb_func
.Lmac4n:
	ldm	r2!, {r1, r3, r4, r5}
	mov	r12, r3
	mov	r9, r5
	NEXT	r6, r5
	mov	r8, r6
	NEXT	r7, r6
	movs	r5, #0
	mov	r10, r5
	bx	r4
	.p2align 2
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
	bl	.Lwords
	lsls	r4, r4, #3
	negs	r4, r4
	str	r4, [sp, #F_RJ + 12]
	lsls	r1, r1, #3
	negs	r1, r1
	str	r1, [sp, #F_RX + 12]
	lsls	r5, r5, #3
	negs	r5, r5
	str	r5, [sp, #F_RH + 12]
	@ The ends, whole pairs of x and h.
	ldr	r0, [sp, #F_RH]
	lsls	r4, r7, #2
	adds	r4, r4, r0
	str	r4, [sp, #F_RJ + 4]
	adds	r4, r6, r7
	adds	r6, #1
	lsrs	r6, r6, #1		@ pairs
	adds	r7, #1
	lsrs	r7, r7, #1
	lsls	r5, r7, #3
	adds	r0, r0, r5
	str	r0, [sp, #F_RH + 4]
	ldr	r0, [sp, #F_RX]
	lsls	r5, r6, #3
	adds	r0, r0, r5
	str	r0, [sp, #F_RX + 4]
	@ Bytes of a block's weights: a word a column and one a pair.
	adds	r5, r4, r6
	adds	r5, r5, r7
	lsls	r5, r5, #2
	str	r5, [sp, #F_LEN]
	@ Entries into the loops: the first pass does what is left over.
	negs	r4, r4
	movs	r1, #GRU_COLUMNS4 - 1
	ands	r4, r1
	movs	r1, #50
	muls	r4, r1, r4
	ldr	r0, =.Lloop8n + 1
	adds	r4, r4, r0
	str	r4, [sp, #F_RJ + 8]
	ldr	r0, =.Lloop4n + 1
	movs	r1, #GRU_PAIRS - 1
	movs	r2, #52
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
	b	.Lblock4
	.p2align 2
	.ltorg

.Lblock4:
	ldr	r1, [sp, #F_LEN]
	adds	r1, r1, r0
	str	r1, [sp, #F_PARAM]
	add	r2, sp, #F_RX
	bl	.Lmac4n
	ldr	r1, [sp, #F_PARAM]
	ROWSN	MW_N, B_NX, F_NX, KEEP
	add	r2, sp, #F_RH
	bl	.Lmac4n
	ldr	r1, [sp, #F_PARAM]
	movs	r5, #1
	lsls	r5, r5, #16
	subs	r5, #1
	ROWSN	MU_N, B_NH, F_NH, SAT
	@ Reset and update: sums in r6 r8 r9 r10 and r7 r11 r12 lr.
	add	r2, sp, #F_RJ
	ldm	r2!, {r1, r3, r4, r5}
	mov	r12, r5
	NEXT	r6, r5
	mov	r11, r6
	NEXT	r7, r6
	NEXT	r6, r7
	mov	r10, r6
	NEXT	r6, r6
	mov	r9, r6
	NEXT	r6, r6
	mov	r8, r6
	NEXT	r6, r6
	movs	r5, #0
	mov	lr, r5
	bx	r4
	@ The way back is too long for one branch.
.Lnext4:
	b	.Lblock4
	.p2align 2
.Lloop8n:
	.rept	GRU_COLUMNS4
	COLUMN8N
	.endr
	ldr	r2, [sp, #F_RJ + 4]
	cmp	r1, r2
	beq	1f
	b	.Lloop8n
1:	ldr	r0, [sp, #F_PARAM]
	ldr	r1, [sp, #A_TABLE]
	movs	r5, #128
	lsls	r5, r5, #8
	adds	r4, r5, r5
	subs	r4, #1
	str	r7, [sp, #F_S4]
	PARTN	r6, r8
	PARTN	r7, r11
	UNIT	0, 0, r4
	mov	r6, r8
	PARTN	r6, r9
	mov	r7, r11
	PARTN	r7, r12
	mov	r8, r4			@ two high registers are free from here on
	ldr	r4, [sp, #F_SHIFT]
	mov	r11, r4
	movs	r4, #255
	lsls	r4, r4, #3
	adds	r4, #4
	UNIT	1, 0, r8, r4, r11
	mov	r6, r9
	PARTN	r6, r10
	mov	r7, r12
	PARTN	r7, lr
	UNIT	2, 0, r8, r4, r11
	ldr	r7, [sp, #F_S4]
	mov	r6, r10
	PARTN	r6, r7
	mov	r7, lr
	lsls	r7, r7, #4
	UNIT	3, 0, r8, r4, r11
	adds	r0, #64
	ldr	r1, [sp, #F_HP]
	adds	r1, #8
	str	r1, [sp, #F_HP]
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
