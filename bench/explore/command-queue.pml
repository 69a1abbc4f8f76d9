/*
 * The lock-less command queue in Promela, access by access as src/drivers/smmuv3/command-queue/lockless-queue.ts
 * makes them: two CPUs that issue LISTS lists of a command and a CMD_SYNC each (completed by MSI), across the
 * wrap, against the hardware that consumes them. What it checks is what the harness
 * `command-queue` checks. Faults are switched on by -DNAME, named after the mutants.
 */

#ifndef LISTS
#define LISTS 1
#endif
#define SIZE 8
#define MASK 15
#define START 6
#define SLOT(index) ((index) % SIZE)
#define BIT(index) (1 << SLOT(index))

/* What a slot's first word says. */
#define NOTHING 0
#define COMMAND 1
#define SYNC 2

byte prod = START;
bool owned = false;
byte cons = START;
byte owner_prod = START;
byte lock = 0;
/* As the driver initialises it: the slots before START were written on this lap. */
byte valid = 63;

byte what[SIZE];
byte who[SIZE];

byte hw_prod = START;
byte hw_cons = START;
byte consumed[2];

#ifdef VALID_SENSE_DOES_NOT_TURN
#define IS_VALID(index) ((valid & BIT(index)) != 0)
#else
#define IS_VALID(index) (((valid & BIT(index)) != 0) == ((index) < SIZE))
#endif

proctype cpu(byte id) {
	byte p; byte c; bool o; byte start; byte end; byte at; byte found; bool is_owner; bool ok;

	byte list = 0;

next:
	atomic { p = prod; o = owned; c = cons };
reserve:
	/* Two CPUs with up to two lists of two slots each: in eight slots there always is room. */
	atomic {
		if
		:: prod == p && owned == o && cons == c ->
			prod = (p + 2) & MASK; owned = true; ok = true
		:: else ->
#ifdef NO_EXCHANGE_CHECK
			ok = true
#else
			ok = false; p = prod; o = owned; c = cons
#endif
		fi
	};
	if :: !ok -> goto reserve :: else fi;
	start = p;
#ifdef EVERYBODY_OWNS
	is_owner = true;
#else
	is_owner = !o;
#endif

	what[SLOT(start)] = COMMAND;
	who[SLOT(start)] = id;
	what[SLOT(start + 1)] = SYNC;
	who[SLOT(start + 1)] = id;
	lock++;
	/* Both slots are in one word of the map. */
	atomic { valid = valid ^ BIT(start); valid = valid ^ BIT(start + 1) };

	if
	:: is_owner ->
#ifndef OWNER_TAKES_NO_TURN
		owner_prod == start;
#endif
#ifdef OWNED_FLAG_STAYS
		end = prod;
#else
		atomic { end = prod; owned = false };
#endif
#ifndef OWNER_PUBLISHES_BEFORE_VALID
		at = start;
		do
		:: at == end -> break
		:: else -> atomic { IS_VALID(at); at = (at + 1) & MASK }
		od;
#endif
		atomic {
			assert(((end - hw_cons) & MASK) <= SIZE);
			assert(((end - hw_cons) & MASK) >= ((hw_prod - hw_cons) & MASK));
			hw_prod = end
		};
		owner_prod = end
	:: else
	fi;

#ifndef SYNC_NOT_WAITED_FOR
	what[SLOT(start + 1)] == NOTHING;
#endif
	list++;
	assert(consumed[id] == list);
	if
	:: lock == 1 -> cons = (start + 2) & MASK
	:: else
	fi;
	lock--;
	if :: list < LISTS -> goto next :: else fi
}

active proctype hardware() {
	byte w; byte by; byte current = 2;
end:
	do
	:: hw_prod != hw_cons ->
		w = what[SLOT(hw_cons)];
		by = who[SLOT(hw_cons)];
		assert(w != NOTHING);
		if
		:: w == COMMAND ->
			assert(current == 2);
			assert(consumed[by] < LISTS);
			current = by
		:: else ->
			assert(current == by);
			atomic { consumed[by]++; current = 2 };
			what[SLOT(hw_cons)] = NOTHING
		fi;
		hw_cons = (hw_cons + 1) & MASK
	od
}

init {
	atomic { run cpu(0); run cpu(1) }
}
