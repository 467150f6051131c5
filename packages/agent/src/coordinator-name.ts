// Whom an agent asks for decisions, by the name that it has on every host.

export const COORDINATOR = 'coordinator/decider'
