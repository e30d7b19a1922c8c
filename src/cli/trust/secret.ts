/** Secrets are made here, on the machine that asks for them; the cluster gets their hash. */
import type { Random } from '../../lib/clock.ts'

/** 64 hex digits with 244 random bits, from the system's own source. */
export const freshSecret = (random: Random): string => `${random.uuid()}${random.uuid()}`.replaceAll('-', '')

/** Short enough to read out: `k3f9a2c41d`. */
export const freshId = (prefix: string, random: Random): string => `${prefix}${random.uuid().slice(0, 8)}`
