@ What surrounds the layers on ARMv6-M (Cortex-M0, M0+): the conditioning of raw counts, and macros for all files.

	.syntax unified
	.thumb

	@ u = u < 0 ? 0 : u > 65535 ? -1 : u; \max = 65535. Its low 16 bits are the clamped value.
	.macro	CLAMP u, t, max
	asrs	\t, \u, #31
	bics	\u, \t
	cmp	\max, \u
	sbcs	\t, \t
	orrs	\u, \t
	.endm

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
	adds	r1, r1, r7
	adds	r2, r2, r7
	negs	r7, r7
	movs	r6, #1
	lsls	r6, r6, #15
	mov	r12, r6
	lsls	r6, r6, #1
	subs	r6, #1
	mov	lr, r6
1:	ldm	r0!, {r3, r4, r5}
	ldrsh	r6, [r1, r7]
	subs	r6, r6, r3
	uxth	r4, r5
	muls	r6, r4, r6
	movs	r3, #0
	lsrs	r5, r5, #16		@ leaves no carry: multipliers have 15 bits
	asrs	r6, r5
	adcs	r6, r3			@ rounds
	add	r6, r12
	CLAMP	r6, r3, lr
	add	r6, r12
	strh	r6, [r2, r7]
	adds	r7, #2
	bne	1b
	pop	{r4-r7, pc}
	.size	gru_quad_condition_narrow, . - gru_quad_condition_narrow
