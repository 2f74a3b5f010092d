/** Priorities and the classes that they are queued in: three, so that ten priorities do not cost ten syncs of the disk. */

/** The highest priority; 0 is the lowest. */
export const PRIORITY_MAX = 9;

export const QUEUE_CLASSES = ["high", "normal", "low"] as const;
export type QueueClass = (typeof QUEUE_CLASSES)[number];

/** Tells the class of a priority: `high` 7 to 9, `normal` 3 to 6, `low` 0 to 2. */
export const classOf = (priority: number): QueueClass => (priority >= 7 ? "high" : priority >= 3 ? "normal" : "low");
