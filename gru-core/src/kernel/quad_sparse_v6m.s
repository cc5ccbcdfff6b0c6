@ Recurrent weights that are left out, layout QuadSparse: see sparse.rs. What quad_v6m.s runs in front of each panel of eight
@ units: it gathers the words of the columns that are there behind the gates' x, sums them for the
@ bias, and works out the ends and entries of the loop. 13 cycles a pair of columns, and some 60.

	.equ	GRU_SPARSE, 1
	.equ	F_STATE, 140	@ the old state, as it was; 0 for a layer with all weights
	.equ	F_JX, 144	@ i2 of the gates' x
	.equ	FRAME, 148

	@ In a GruLayer, and the layout's number.
	.equ	G_LAYOUT, 12
	.equ	QUAD_SPARSE, 10

	@ In .Lwords: whether the layer at r4 has panels. Clobbers r5 and r6.
	.macro	HAS_PANELS
	ldrb	r5, [r4, #G_LAYOUT]
	movs	r6, #QUAD_SPARSE
	eors	r5, r6
	subs	r5, #1
	sbcs	r5, r5			@ all ones where it was equal
	str	r5, [sp, #F_STATE]
	.endm

	@ In .Lwords: where there are panels, keeps the state from r0 to r1 behind the room for as many words
	@ from r2 and goes on at \next with r7 = 0. Clobbers r3-r6.
	.macro	KEEP_STATE next
	ldr	r3, [sp, #F_STATE]
	cmp	r3, #0
	beq	8f
	lsls	r3, r7, #1
	adds	r2, r2, r3
	str	r2, [sp, #F_STATE]
9:	ldm	r0!, {r3, r4}
	stm	r2!, {r3, r4}
	cmp	r0, r1
	bne	9b
	movs	r7, #0
	b	\next
8:
	.endm

	@ One pair: its number is at r0 + \at, its words go to r2, their sum to r6; r1 = the old state. 12 cycles.
	.macro	GATHER at
	ldrb	r3, [r0, #\at]
	lsls	r3, r3, #2
	ldr	r4, [r1, r3]
	sxth	r3, r4
	asrs	r4, r4, #16
	stm	r2!, {r3, r4}
	adds	r6, r6, r3
	adds	r6, r6, r4
	.endm

	@ In \record: entry into the loop for r4 columns; r5 = the loop's start.
	.macro	ENTER record
	negs	r4, r4
	movs	r3, #GRU_COLUMNS - 1
	ands	r4, r3
	movs	r3, #48
	muls	r4, r3, r4
	adds	r4, r4, r5
	str	r4, [sp, #\record + 8]
	.endm

	@ A panel at r0; r0 = its block.
	.macro	PANEL
	ldr	r1, [sp, #F_STATE]
	ldr	r2, [sp, #F_RH]
	ldrb	r7, [r0]
	adds	r0, #1
	adds	r7, #1
	adds	r7, r7, r0
	movs	r6, #0
	b	2f
1:	GATHER	0
	adds	r0, #1
2:	subs	r3, r7, r0		@ whole fours
	lsls	r3, r3, #30
	bne	1b
	cmp	r0, r7
	beq	4f
3:	GATHER	0
	GATHER	1
	GATHER	2
	GATHER	3
	adds	r0, #4
	cmp	r0, r7
	bne	3b
4:	adds	r0, #3
	lsrs	r0, r0, #2
	lsls	r0, r0, #2
	lsls	r6, r6, #7
	negs	r6, r6
	str	r6, [sp, #F_RH + 12]
	ldr	r3, [sp, #F_JX]
	adds	r6, r6, r3
	str	r6, [sp, #F_RJ + 12]
	str	r2, [sp, #F_RH + 4]
	str	r2, [sp, #F_RJ + 4]
	ldr	r5, =.Lloop8 + 1
	ldr	r3, [sp, #F_RJ]
	subs	r6, r2, r3		@ bytes of words of both
	ldr	r3, [sp, #F_RH]
	subs	r4, r2, r3
	lsrs	r4, r4, #2
	ENTER	F_RH
	lsrs	r4, r6, #2
	ENTER	F_RJ
	lsls	r3, r6, #2		@ six words of weights for each
	lsls	r6, r6, #1
	adds	r3, r3, r6
	str	r3, [sp, #F_LEN]
	.endm
