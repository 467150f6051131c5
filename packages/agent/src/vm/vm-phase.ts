// What a VM's actor is at. What is reported of it is coarser or finer: see ReportedMachine.

/**
 * `standing`: it exists and has not run yet; `released`: a switch-over has paused it; `over`: nothing of it is left. A
 * migration out leaves it `running` until the switch; one coming in is `incoming` until the commit.
 */
export type Phase = 'opening' | 'standing' | 'running' | 'frozen' | 'incoming' | 'released' | 'stopping' | 'over'

/** How a VM's actor ends, and why. */
export interface Ending {
  readonly state: 'stopped' | 'halted' | 'crashed' | 'failed'
  readonly why: string | null
}

export const SHUTDOWN_LATE: Ending = { state: 'stopped', why: 'its guest did not shut down in time and was killed' }
